"""What the vault holds, who refers to it, and when it was last looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import SealRefused
from quantry_core.versions import ManifestFile
from quantry_store.tables import BlobRow, DatasetRow, JobArtifactRow, JobCheckpointFileRow, UploadFileRow, VersionFileRow

_REFERENCES = (
    VersionFileRow.kept_sha256,
    DatasetRow.kept_sha256,
    UploadFileRow.sha256,
    JobArtifactRow.sha256,
    JobCheckpointFileRow.sha256,
)
"""Every column that keeps a blob from being collected. Each has a foreign key too: a row that is forgotten here is refused there."""

_FOR_A_WHILE = (JobCheckpointFileRow.sha256,)
"""Those of them that hold a blob only until a job went on from it."""


class Blob(NamedTuple):
    """Bytes of the vault."""

    sha256: str
    size_bytes: int


class Holders(NamedTuple):
    """What refers to a blob."""

    versions: list[tuple[str, str]]
    """Project and version."""

    datasets: list[tuple[str, str]]
    """Project, and ``name@number``."""

    artifacts: list[tuple[str, str]]
    """Project, and ``job_.../path``."""

    checkpoints: list[tuple[str, str]]
    """Project, and ``job_.../checkpoints/20/path``."""


def lasting() -> Select[str, int]:
    """Returns the statement that selects digest and size of every blob that something holds for good, by digest: all but
    what only checkpoints of jobs hold, and what nothing holds any more."""
    held = [exists().where(column == BlobRow.sha256) for column in _REFERENCES if column not in _FOR_A_WHILE]
    return select(BlobRow.sha256, BlobRow.size_bytes).where(or_(*held)).order_by(BlobRow.sha256)


class BlobRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, sizes: dict[str, int]) -> None:
        """Notes blobs (size in bytes by SHA-256) as sealed just now, those that were there before too: their age begins anew."""
        await self._note(sizes, {"only_checkpoints": False}, anew={"sealed_at": func.now(), "only_checkpoints": False})

    async def add_of_checkpoint(self, sizes: dict[str, int]) -> None:
        """Notes blobs as ``add`` does; those that were not there before are of checkpoints alone, until ``add`` notes them too."""
        await self._note(sizes, {"only_checkpoints": True}, anew={"sealed_at": func.now()})

    async def check_sealed(self, files: Iterable[ManifestFile]) -> None:
        """Raises SealRefused naming the first file whose bytes are not in the vault, or are there with another size."""
        wanted = list(files)
        digests = {file.sha256 for file in wanted}
        found = await self._session.execute(select(BlobRow.sha256, BlobRow.size_bytes).where(BlobRow.sha256.in_(digests)))
        sizes = {sha256: size_bytes for sha256, size_bytes in found}
        for file in wanted:
            if file.sha256 not in sizes:
                raise SealRefused(f"{file.path} ({file.sha256}) is not in the vault; seal the files first")
            if sizes[file.sha256] != file.size_bytes:
                raise SealRefused(f"{file.path} has {sizes[file.sha256]} bytes in the vault, {file.size_bytes} were declared")

    async def known(self, digests: Collection[str]) -> set[str]:
        """Returns which of these digests are noted."""
        return set(await self._session.scalars(select(BlobRow.sha256).where(BlobRow.sha256.in_(digests))))

    async def after(self, sha256: str, *, limit: int, unverified_s: float | None = None) -> list[Blob]:
        """Returns the next blobs by digest after ``sha256``; only those not verified for ``unverified_s`` seconds, where given."""
        statement = select(BlobRow.sha256, BlobRow.size_bytes).where(BlobRow.sha256 > sha256)
        if unverified_s is not None:
            longest_ago = func.now() - timedelta(seconds=unverified_s)
            statement = statement.where(func.coalesce(BlobRow.verified_at < longest_ago, True))
        rows = await self._session.execute(statement.order_by(BlobRow.sha256).limit(limit))
        return [Blob(*row) for row in rows]

    async def note_verified(self, digests: Collection[str]) -> None:
        """Notes that the bytes of these blobs were hashed just now and were right."""
        # Locked in the order in which seals lock them, so that neither waits for the other crosswise.
        held = select(BlobRow.sha256).where(BlobRow.sha256.in_(digests)).order_by(BlobRow.sha256).with_for_update(key_share=True)
        await self._session.execute(held)
        statement = update(BlobRow).where(BlobRow.sha256.in_(digests)).values(verified_at=func.now())
        await self._session.execute(statement.execution_options(synchronize_session=False))

    async def hold(self, sha256: str) -> bool:
        """Locks a blob's row until the transaction ends, so that nobody notes it anew or collects it; returns whether there is one."""
        statement = select(BlobRow.sha256).where(BlobRow.sha256 == sha256).with_for_update(key_share=True)
        return (await self._session.scalars(statement)).one_or_none() is not None

    async def holders(self, sha256: str) -> Holders:
        """Returns what refers to a blob, in every project."""
        versions = select(VersionFileRow.project_id, VersionFileRow.version_id).where(VersionFileRow.kept_sha256 == sha256).distinct()
        datasets = select(DatasetRow.project_id, DatasetRow.name, DatasetRow.number).where(DatasetRow.kept_sha256 == sha256)
        artifacts = select(JobArtifactRow.project_id, JobArtifactRow.job_id, JobArtifactRow.path).where(JobArtifactRow.sha256 == sha256)
        columns = (JobCheckpointFileRow.project_id, JobCheckpointFileRow.job_id, JobCheckpointFileRow.step, JobCheckpointFileRow.path)
        checkpoints = select(*columns).where(JobCheckpointFileRow.sha256 == sha256)
        run = self._session.execute
        return Holders(
            versions=sorted((project_id, version_id) for project_id, version_id in await run(versions)),
            datasets=sorted((project_id, f"{name}@{number}") for project_id, name, number in await run(datasets)),
            artifacts=sorted((project_id, f"{job_id}/{path}") for project_id, job_id, path in await run(artifacts)),
            checkpoints=sorted(
                (project_id, f"{job_id}/checkpoints/{step}/{path}") for project_id, job_id, step, path in await run(checkpoints)
            ),
        )

    async def unreferenced(self, age_s: float, *, after: str, limit: int) -> list[Blob]:
        """Returns the next blobs by digest after ``after`` that nothing refers to and that were sealed ``age_s`` seconds ago."""
        statement = select(BlobRow.sha256, BlobRow.size_bytes).where(BlobRow.sha256 > after, *_is_garbage(age_s))
        rows = await self._session.execute(statement.order_by(BlobRow.sha256).limit(limit))
        return [Blob(*row) for row in rows]

    async def let_go(self, age_s: float, *, after: str, limit: int) -> list[Blob]:
        """Returns the next blobs by digest after ``after`` that were checkpoints' alone, that no job goes on from any more, and that
        were sealed ``age_s`` seconds ago."""
        statement = select(BlobRow.sha256, BlobRow.size_bytes).where(BlobRow.only_checkpoints, BlobRow.sha256 > after, *_is_garbage(age_s))
        rows = await self._session.execute(statement.order_by(BlobRow.sha256).limit(limit))
        return [Blob(*row) for row in rows]

    async def released(self, age_s: float, *, after: str, limit: int) -> list[Blob]:
        """Returns the next blobs by digest after ``after`` that a version let go of when its time in quarantine was over, that nothing
        else holds, and that were sealed ``age_s`` seconds ago."""
        statement = select(BlobRow.sha256, BlobRow.size_bytes).where(_is_released(), BlobRow.sha256 > after, *_is_garbage(age_s))
        rows = await self._session.execute(statement.order_by(BlobRow.sha256).limit(limit))
        return [Blob(*row) for row in rows]

    async def held_by_nothing(self, digests: Collection[str]) -> list[Blob]:
        """Returns those of these blobs that nothing holds, whenever they were sealed."""
        unused = [~exists().where(column == BlobRow.sha256) for column in _REFERENCES]
        rows = await self._session.execute(select(BlobRow.sha256, BlobRow.size_bytes).where(BlobRow.sha256.in_(digests), *unused))
        return [Blob(*row) for row in rows]

    async def forget(self, digests: Sequence[str], age_s: float) -> list[Blob]:
        """Deletes the rows of those of these blobs that are garbage still, and returns them. What is locked is left for later."""
        return await self._forget(digests, _is_garbage(age_s))

    async def forget_let_go(self, digests: Sequence[str], age_s: float) -> list[Blob]:
        """Does what ``forget`` does with those that are checkpoints' alone still: a seal may have noted one since ``let_go``."""
        return await self._forget(digests, [BlobRow.only_checkpoints.is_(True), *_is_garbage(age_s)])

    async def forget_released(self, digests: Sequence[str], age_s: float) -> list[Blob]:
        """Does what ``forget`` does with those that ``released`` would still return."""
        return await self._forget(digests, [_is_released(), *_is_garbage(age_s)])

    async def reserve(self, blob: Blob) -> bool:
        """Takes a digest that no row has, and tells whether it could: whoever wants to note it waits until this transaction ends.

        Nobody is to see the row: the same transaction ends with ``unreserve``, or not at all.
        """
        statement = insert(BlobRow).values(sha256=blob.sha256, size_bytes=blob.size_bytes).on_conflict_do_nothing()
        return (await self._session.scalars(statement.returning(BlobRow.sha256))).one_or_none() is not None

    async def unreserve(self, blob: Blob) -> None:
        """Takes back what ``reserve`` did in this transaction."""
        gone = delete_from(BlobRow).where(BlobRow.sha256 == blob.sha256)
        await self._session.execute(gone.execution_options(synchronize_session=False))

    async def _note(self, sizes: dict[str, int], kept_as: dict[str, Any], *, anew: dict[str, Any]) -> None:
        if not sizes:
            return
        # Sorted, so that two seals of the same files never wait for each other crosswise.
        rows = [{"sha256": sha256, "size_bytes": sizes[sha256], **kept_as} for sha256 in sorted(sizes)]
        statement = insert(BlobRow).values(rows)
        await self._session.execute(statement.on_conflict_do_update(index_elements=[BlobRow.sha256], set_=anew))

    async def _forget(self, digests: Sequence[str], conditions: Sequence[ColumnElement[bool]]) -> list[Blob]:
        """Two statements on purpose: once a row is locked nobody can add a reference to it, and the second statement sees every
        reference that was committed before."""
        held = select(BlobRow.sha256).where(BlobRow.sha256.in_(digests)).order_by(BlobRow.sha256).with_for_update(skip_locked=True)
        locked = (await self._session.scalars(held)).all()
        if not locked:
            return []
        gone = delete_from(BlobRow).where(BlobRow.sha256.in_(locked), *conditions).returning(BlobRow.sha256, BlobRow.size_bytes)
        return [Blob(*row) for row in await self._session.execute(gone.execution_options(synchronize_session=False))]


def _is_released() -> ColumnElement[bool]:
    return BlobRow.sha256.in_(select(VersionFileRow.sha256).where(VersionFileRow.released_at.is_not(None)))


def _is_garbage(age_s: float) -> list[ColumnElement[bool]]:
    unused = [~exists().where(column == BlobRow.sha256) for column in _REFERENCES]
    return [BlobRow.sealed_at < func.now() - timedelta(seconds=age_s), *unused]
