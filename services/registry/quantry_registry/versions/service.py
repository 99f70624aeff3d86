"""Files of versions, out of the vault, and what is told of versions: cards and comparisons."""

from __future__ import annotations

from quantry_core.cards import model_card
from quantry_core.comparisons import Comparison, Descent, compare, relation_of
from quantry_core.versions import EdgeRole, ManifestFile, VersionDetail
from quantry_store.database import Database
from quantry_store.unit_of_work import UnitOfWork


async def find_file(database: Database, project_id: str, ref: str, path: str) -> ManifestFile:
    """Returns a file of the version that ``ref`` means; raises UnknownModel, UnknownVersion, NotFound or BytesReleased."""
    async with database.begin() as uow:
        version = await uow.versions.resolve(project_id, ref)
        return await uow.versions.file(project_id, version.id, path)


async def card_of(database: Database, project_id: str, ref: str) -> str:
    """Returns the model card of the version that ``ref`` means, as Markdown with front matter."""
    async with database.begin() as uow:
        version = await _detail(uow, project_id, ref)
        base_id = next((edge.parent_version_id for edge in version.edges if edge.role is EdgeRole.BASE), None)
        master = None if base_id is None else await uow.versions.detail(project_id, base_id)
        names = {
            edge.parent_dataset_id: (await uow.datasets.get(project_id, edge.parent_dataset_id)).ref
            for edge in version.edges
            if edge.parent_dataset_id is not None
        }
        for edge in version.edges:
            if edge.role is EdgeRole.ADAPTER and edge.parent_version_id is not None:
                names[edge.parent_version_id] = (await uow.versions.get(project_id, edge.parent_version_id)).ref
    return model_card(version, master, names)


async def comparison_of(database: Database, project_id: str, left: str, right: str) -> Comparison:
    """Returns what tells two versions apart; raises UnknownModel or UnknownVersion."""
    async with database.begin() as uow:
        ours, theirs = await _detail(uow, project_id, left), await _detail(uow, project_id, right)
        descents = [Descent(version.id, await uow.versions.ancestors(project_id, version.id)) for version in (ours, theirs)]
        relation = relation_of(*descents)
    return compare(ours, theirs, relation)


async def _detail(uow: UnitOfWork, project_id: str, ref: str) -> VersionDetail:
    return await uow.versions.detail(project_id, (await uow.versions.resolve(project_id, ref)).id)
