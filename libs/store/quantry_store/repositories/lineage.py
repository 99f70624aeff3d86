"""The lineage graph of a version: every ancestor, and descendants as far as there is room for them."""

from __future__ import annotations

from sqlalchemy import Text, and_, cast, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.datasets import Derivation
from quantry_core.versions import EdgeRole, Lineage, LineageLink, LineageNode
from quantry_store.tables import DatasetRow, LineageEdgeRow, ModelRow, VersionRow

MAX_DESCENDANTS = 500
"""So many versions made from one are in its lineage, nearest first and of those the newest: a master may have thousands."""


async def load_lineage(session: AsyncSession, version_id: str) -> Lineage:
    """Returns the graph around a version. Datasets are in it where the version or an ancestor was made with them.

    Callers have looked the version up in its project; edges never leave a project.
    """
    ancestors = {version_id} | await load_ancestors(session, version_id)
    descendants, has_more = await _descendants(session, version_id)
    versions = ancestors | descendants
    edges = (
        await session.scalars(
            select(LineageEdgeRow)
            .where(
                or_(
                    LineageEdgeRow.child_version_id.in_(ancestors),
                    and_(LineageEdgeRow.child_version_id.in_(descendants), LineageEdgeRow.parent_version_id.in_(versions)),
                )
            )
            .order_by(LineageEdgeRow.child_version_id, LineageEdgeRow.position)
        )
    ).all()
    datasets = {edge.parent_dataset_id for edge in edges if edge.parent_dataset_id is not None}
    links = [
        LineageLink(child_id=edge.child_version_id, parent_id=edge.parent_version_id or edge.parent_dataset_id or "", role=edge.role)
        for edge in edges
    ]
    dataset_nodes, dataset_links = await _datasets(session, datasets)
    nodes = [*await _version_nodes(session, versions), *dataset_nodes]
    return Lineage(version_id=version_id, nodes=nodes, links=[*links, *dataset_links], has_more=has_more)


async def load_ancestors(session: AsyncSession, version_id: str) -> set[str]:
    """Returns the ids of the versions that a version was made from, however far back. Callers have looked it up in its project."""
    found = select(cast(literal(version_id), Text).label("id")).cte("ancestors", recursive=True)
    parents = select(LineageEdgeRow.parent_version_id).join(found, LineageEdgeRow.child_version_id == found.c.id)
    found = found.union(parents.where(LineageEdgeRow.parent_version_id.is_not(None)))
    return set(await session.scalars(select(found.c.id))) - {version_id}


async def _descendants(session: AsyncSession, version_id: str) -> tuple[set[str], bool]:
    """Returns the ids of the versions made from a version, MAX_DESCENDANTS at most, and whether there are more."""
    found: set[str] = set()
    parents = {version_id}
    # One statement for each generation, asked for one more than there is room for.
    while parents:
        made_from = select(LineageEdgeRow.child_version_id).where(LineageEdgeRow.parent_version_id.in_(parents)).distinct()
        newest = made_from.order_by(LineageEdgeRow.child_version_id.desc()).limit(MAX_DESCENDANTS + 1)
        parents = set()
        for child in await session.scalars(newest.where(LineageEdgeRow.child_version_id.not_in(found))):
            if len(found) == MAX_DESCENDANTS:
                return found, True
            found.add(child)
            parents.add(child)
    return found, False


async def _version_nodes(session: AsyncSession, ids: set[str]) -> list[LineageNode]:
    rows = await session.execute(
        select(VersionRow.id, ModelRow.name, VersionRow.number, VersionRow.kind, VersionRow.state)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
        .where(VersionRow.id.in_(ids))
        .order_by(VersionRow.id)
    )
    return [
        LineageNode(id=id_, noun="version", label=f"{name}@{number}", kind=kind, state=state) for id_, name, number, kind, state in rows
    ]


async def _datasets(session: AsyncSession, ids: set[str]) -> tuple[list[LineageNode], list[LineageLink]]:
    """Returns datasets and all that they were derived from."""
    nodes: dict[str, LineageNode] = {}
    links: list[LineageLink] = []
    # One statement for each generation; a dataset is derived from older ones, so it ends.
    while ids:
        columns = (DatasetRow.id, DatasetRow.name, DatasetRow.number, DatasetRow.kind, DatasetRow.derivation, DatasetRow.deleted_at)
        rows = (await session.execute(select(*columns).where(DatasetRow.id.in_(ids)).order_by(DatasetRow.id))).all()
        found = {}
        for id_, name, number, kind, derivation, deleted_at in rows:
            state = "ready" if deleted_at is None else "deleted"
            nodes[id_] = LineageNode(id=id_, noun="dataset", label=f"{name}@{number}", kind=kind, state=state)
            found[id_] = [] if derivation is None else [parent.id for parent in Derivation.model_validate(derivation).parents]
        links += [
            LineageLink(child_id=child, parent_id=parent, role=EdgeRole.SOURCE) for child, parents in found.items() for parent in parents
        ]
        ids = {parent for parents in found.values() for parent in parents} - nodes.keys()
    return list(nodes.values()), links
