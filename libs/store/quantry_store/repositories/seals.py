"""What each attempt sealed last, and whether a version is that."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import SealRefused
from quantry_core.jobs import Job
from quantry_core.versions import VersionDraft, VersionKind, manifest_digest
from quantry_store.tables import SealRow


class SealRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(self, job: Job, digest: str, *, dtype: str | None) -> None:
        """Notes that the attempt which holds ``job`` sealed the manifest of ``digest``; it takes the place of an earlier seal."""
        statement = insert(SealRow).values(
            job_id=job.id, attempt=job.attempt, project_id=job.project_id, manifest_digest=digest, dtype=dtype
        )
        latest = {"manifest_digest": statement.excluded.manifest_digest, "dtype": statement.excluded.dtype, "created_at": func.now()}
        await self._session.execute(statement.on_conflict_do_update(index_elements=[SealRow.job_id, SealRow.attempt], set_=latest))

    async def check(self, job: Job, draft: VersionDraft) -> None:
        """Raises SealRefused unless the draft's files are exactly those that the job's attempt sealed last, and a master's
        dtype is the one that was found in them."""
        statement = select(SealRow.manifest_digest, SealRow.dtype).where(SealRow.job_id == job.id, SealRow.attempt == job.attempt)
        seal = (await self._session.execute(statement)).one_or_none()
        if seal is None:
            raise SealRefused(f"attempt {job.attempt} has sealed no files; seal them first")
        if seal.manifest_digest != manifest_digest(draft.files):
            raise SealRefused(f"the version's files are not the ones that attempt {job.attempt} sealed last")
        if draft.kind is VersionKind.MASTER and draft.dtype != seal.dtype:
            raise SealRefused(f"the sealed weights are {seal.dtype}, not {draft.dtype}")
