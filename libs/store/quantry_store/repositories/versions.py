"""Versions: immutable checkpoints with their files, edges and evidence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Select, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import BytesReleased, NotFound, UnknownVersion
from quantry_core.ids import IdPrefix, is_id, new_id
from quantry_core.jobs import Job
from quantry_core.versions import (
    EdgeRole,
    Lineage,
    LineageEdge,
    ManifestFile,
    Model,
    Version,
    VersionDetail,
    VersionDraft,
    VersionKind,
    VersionState,
    manifest_digest,
)
from quantry_store.failures import core_errors
from quantry_store.references import NameRef, choices, parse_ref
from quantry_store.repositories.evidence import EvidenceRepository
from quantry_store.repositories.lineage import load_ancestors, load_lineage
from quantry_store.repositories.models import ModelRepository
from quantry_store.repositories.version_rows import to_version
from quantry_store.tables import AliasRow, LineageEdgeRow, ModelRow, VersionFileRow, VersionRow

WEIGHT_SUFFIXES = (".safetensors", ".gguf")
"""Files of weights; the rest of a version is tokenizer, configuration and the like."""


class VersionRepository:
    def __init__(self, session: AsyncSession, *, models: ModelRepository, evidence: EvidenceRepository) -> None:
        self._session = session
        self._models = models
        self._evidence = evidence

    async def get(self, project_id: str, version_id: str) -> Version:
        """Returns a version by its id; raises UnknownVersion."""
        row = (await self._session.execute(_versions(project_id).where(VersionRow.id == version_id))).one_or_none()
        if row is None:
            raise UnknownVersion(f"there is no version {version_id!r}")
        return to_version(*row)

    async def refs(self, project_id: str, version_ids: Collection[str]) -> dict[str, str]:
        """Returns ``name@number`` of each of these versions that there is and that is not deleted."""
        rows = await self._session.execute(_living(project_id).where(VersionRow.id.in_(version_ids)))
        return {version.id: version.ref for version in (to_version(*row) for row in rows)}

    async def detail(self, project_id: str, version_id: str) -> VersionDetail:
        """Returns a version with files (by path), edges and evidence; raises UnknownVersion."""
        version = await self.get(project_id, version_id)
        return VersionDetail(
            **dict(version),
            files=await self.files(version.id),
            edges=await self._edges(version.id),
            evidence=await self._evidence.list(version.id),
        )

    async def base_id_of(self, version_id: str) -> str | None:
        """Returns the id of the version that a version was made from; None where its lineage has none."""
        edges = await self._edges(version_id)
        return next((edge.parent_version_id for edge in edges if edge.role is EdgeRole.BASE and edge.parent_version_id is not None), None)

    async def base_of(self, version: Version) -> Version | None:
        """Returns the version that a version was made from; None where its lineage has none."""
        base_id = await self.base_id_of(version.id)
        return None if base_id is None else await self.get(version.project_id, base_id)

    async def resolve(
        self, project_id: str, ref: str, *, kinds: Collection[VersionKind] | None = None, first: VersionKind | None = None
    ) -> Version:
        """Returns the version that ``ver_...``, ``name@3``, ``name@alias`` or ``name`` means.

        A name alone is the latest ready version of one of ``kinds`` (any kind where None), of the kind ``first`` where there is one;
        both say nothing about the other forms, which name one version. A deleted version is found by its id alone. Raises
        InvalidName, UnknownModel, or UnknownVersion naming what there is.
        """
        if is_id(ref, IdPrefix.VERSION):
            return await self.get(project_id, ref)
        parts = parse_ref(ref)
        model = await self._models.get(project_id, parts.name)
        statement = _living(project_id).where(VersionRow.model_id == model.id)
        if parts.number is not None:
            statement = statement.where(VersionRow.number == parts.number)
        elif parts.alias is not None:
            statement = statement.join(AliasRow, AliasRow.version_id == VersionRow.id).where(
                AliasRow.model_id == model.id, AliasRow.alias == parts.alias
            )
        else:
            statement = statement.where(VersionRow.state == VersionState.READY)
            if kinds is not None:
                statement = statement.where(VersionRow.kind.in_(kinds))
        order = [VersionRow.number.desc()] if first is None else [(VersionRow.kind == first).desc(), VersionRow.number.desc()]
        row = (await self._session.execute(statement.order_by(*order).limit(1))).one_or_none()
        if row is None:
            raise UnknownVersion(await self._nothing_found(model, parts, kinds))
        return to_version(*row)

    async def with_fingerprint(self, project_id: str, fingerprints: Collection[str]) -> Version | None:
        """Returns the newest ready version with one of these fingerprints; None if there is none."""
        statement = _living(project_id).where(VersionRow.fingerprint.in_(fingerprints), VersionRow.state == VersionState.READY)
        row = (await self._session.execute(statement.order_by(VersionRow.id.desc()).limit(1))).one_or_none()
        return None if row is None else to_version(*row)

    async def hold(self, version: Version) -> None:
        """Keeps a version from being deleted and its bytes from being released until the transaction ends; raises UnknownVersion if
        it is deleted, BytesReleased if its bytes are gone."""
        statement = select(VersionRow.bytes_released_at).where(VersionRow.id == version.id, VersionRow.deleted_at.is_(None))
        found = (await self._session.execute(statement.with_for_update(read=True, key_share=True))).one_or_none()
        if found is None:
            raise UnknownVersion(f"version {version.ref} is deleted; restore it first")
        _check_bytes(version, found.bytes_released_at)

    async def quarantine(self, version_id: str) -> None:
        """Makes a version quarantined; raises VersionProtected for a master."""
        with core_errors():
            statement = update(VersionRow).where(VersionRow.id == version_id).values(state=VersionState.QUARANTINED)
            await self._session.execute(statement)

    async def end_quarantine(self, version_id: str) -> None:
        """Makes a quarantined version ready. Only for a reason to be quarantined that is over, never for a gate that was not passed."""
        statement = update(VersionRow).where(VersionRow.id == version_id, VersionRow.state == VersionState.QUARANTINED)
        await self._session.execute(statement.values(state=VersionState.READY))

    async def file(self, project_id: str, version_id: str, path: str) -> ManifestFile:
        """Returns one file of a version; raises UnknownVersion, NotFound if it has no such file, BytesReleased if its bytes are gone."""
        version = await self.get(project_id, version_id)
        statement = select(VersionFileRow).where(VersionFileRow.version_id == version.id, VersionFileRow.path == path)
        row = (await self._session.scalars(statement)).one_or_none()
        if row is None:
            raise NotFound(f"version {version.ref} has no file {path!r}")
        _check_bytes(version, row.released_at)
        return ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256)

    async def files(self, version_id: str) -> list[ManifestFile]:
        """Returns the manifest of a version, by path. Callers have looked the version up in its project."""
        rows = await self._session.scalars(
            select(VersionFileRow).where(VersionFileRow.version_id == version_id).order_by(VersionFileRow.path)
        )
        return [ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]

    async def kept_files(self, version_id: str) -> list[ManifestFile]:
        """Returns those files of a version whose bytes it still holds, by path: all of them, or none."""
        kept = select(VersionFileRow).where(VersionFileRow.version_id == version_id, VersionFileRow.released_at.is_(None))
        rows = await self._session.scalars(kept.order_by(VersionFileRow.path))
        return [ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]

    async def lineage(self, project_id: str, version_id: str) -> Lineage:
        """Returns every ancestor of a version and MAX_DESCENDANTS descendants at most; raises UnknownVersion."""
        version = await self.get(project_id, version_id)
        return await load_lineage(self._session, version.id)

    async def ancestors(self, project_id: str, version_id: str) -> set[str]:
        """Returns the ids of the versions that a version was made from, however far back; raises UnknownVersion."""
        version = await self.get(project_id, version_id)
        return await load_ancestors(self._session, version.id)

    async def add(
        self, job: Job, model: Model, draft: VersionDraft, edges: Sequence[LineageEdge], *, fingerprint: str | None = None
    ) -> Version:
        """Returns the version a held job made, with the model's next number. The files' blobs must have been checked.

        ``fingerprint`` is of all it was made from; None where an identical job could make something else.
        """
        version_id = new_id(IdPrefix.VERSION)
        row = VersionRow(
            id=version_id,
            project_id=job.project_id,
            model_id=model.id,
            number=await self._models.next_number(model.id),
            kind=draft.kind,
            state=draft.state,
            format=draft.format,
            scheme=draft.scheme,
            dtype=draft.dtype,
            manifest_digest=manifest_digest([*draft.files]),
            size_bytes=sum(file.size_bytes for file in draft.files),
            weights_bytes=sum(file.size_bytes for file in draft.files if file.path.endswith(WEIGHT_SUFFIXES)),
            job_id=job.id,
            attempt=job.attempt,
            recipe=draft.recipe,
            toolchain=draft.toolchain,
            fingerprint=fingerprint,
            card=draft.card.model_dump(mode="json"),
        )
        self._session.add(row)
        await self._session.flush()
        self._session.add_all(
            VersionFileRow(version_id=version_id, path=file.path, project_id=job.project_id, sha256=file.sha256, size_bytes=file.size_bytes)
            for file in draft.files
        )
        self._session.add_all(
            LineageEdgeRow(
                child_version_id=version_id,
                position=position,
                project_id=job.project_id,
                role=edge.role,
                parent_version_id=edge.parent_version_id,
                parent_dataset_id=edge.parent_dataset_id,
            )
            for position, edge in enumerate(edges)
        )
        await self._session.flush()
        return to_version(row, model.name)

    async def _edges(self, version_id: str) -> list[LineageEdge]:
        rows = await self._session.scalars(
            select(LineageEdgeRow).where(LineageEdgeRow.child_version_id == version_id).order_by(LineageEdgeRow.position)
        )
        return [
            LineageEdge(role=row.role, parent_version_id=row.parent_version_id, parent_dataset_id=row.parent_dataset_id) for row in rows
        ]

    async def _nothing_found(self, model: Model, ref: NameRef, kinds: Collection[VersionKind] | None) -> str:
        if ref.number is not None:
            statement = (
                select(VersionRow.number)
                .where(VersionRow.model_id == model.id, VersionRow.deleted_at.is_(None))
                .order_by(VersionRow.number.desc())
            )
            numbers = (await self._session.scalars(statement)).all()
            return f"model {ref.name!r} has no version {ref.number}; {choices(numbers, of='versions')}"
        if ref.alias is not None:
            statement_of_names = select(AliasRow.alias).where(AliasRow.model_id == model.id).order_by(AliasRow.alias)
            names = (await self._session.scalars(statement_of_names)).all()
            return f"model {ref.name!r} has no alias {ref.alias!r}; {choices(names, of='aliases')}"
        fitting = "" if kinds is None else " of kind " + " or ".join(sorted(kinds))
        return f"model {ref.name!r} has no ready version{fitting}; none of its {model.num_versions} versions fits"


def _check_bytes(version: Version, released_at: datetime | None) -> None:
    if released_at is not None:
        raise BytesReleased(
            f"the bytes of {version.ref} were given up on {released_at:%Y-%m-%d}, after its time in quarantine; its manifest and evidence "
            "can be read, and its recipe makes it again"
        )


def _versions(project_id: str) -> Select[VersionRow, str]:
    return select(VersionRow, ModelRow.name).join(ModelRow, ModelRow.id == VersionRow.model_id).where(VersionRow.project_id == project_id)


def _living(project_id: str) -> Select[VersionRow, str]:
    return _versions(project_id).where(VersionRow.deleted_at.is_(None))
