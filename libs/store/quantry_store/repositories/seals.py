"""What each attempt sealed last, and whether a version or artifacts are that."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import SealRefused
from quantry_core.jobs import Job
from quantry_core.versions import ManifestFile, VersionDraft, VersionKind, manifest_digest
from quantry_store.tables import ArtifactSealRow, CheckpointSealRow, SealRow


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

    async def record_artifacts(self, job: Job, digest: str) -> None:
        """Notes that the attempt which holds ``job`` sealed artifacts with this manifest; it takes the place of an earlier seal."""
        statement = insert(ArtifactSealRow).values(job_id=job.id, attempt=job.attempt, project_id=job.project_id, manifest_digest=digest)
        latest = {"manifest_digest": statement.excluded.manifest_digest, "created_at": func.now()}
        key = [ArtifactSealRow.job_id, ArtifactSealRow.attempt]
        await self._session.execute(statement.on_conflict_do_update(index_elements=key, set_=latest))

    async def check_artifacts(self, job: Job, files: Sequence[ManifestFile]) -> None:
        """Raises SealRefused unless these are exactly the artifacts that the job's attempt sealed last."""
        seal = (ArtifactSealRow.job_id == job.id, ArtifactSealRow.attempt == job.attempt)
        digest = await self._session.scalar(select(ArtifactSealRow.manifest_digest).where(*seal))
        if digest is None:
            raise SealRefused(f"attempt {job.attempt} has sealed no artifacts; seal them first")
        if digest != manifest_digest([*files]):
            raise SealRefused(f"the artifacts are not the ones that attempt {job.attempt} sealed last")

    async def record_checkpoint(self, job: Job, step: int, digest: str) -> None:
        """Notes that the attempt which holds ``job`` sealed this checkpoint; it takes the place of an earlier one's seal."""
        statement = insert(CheckpointSealRow).values(
            job_id=job.id, attempt=job.attempt, project_id=job.project_id, step=step, manifest_digest=digest
        )
        latest = {"step": statement.excluded.step, "manifest_digest": statement.excluded.manifest_digest, "created_at": func.now()}
        key = [CheckpointSealRow.job_id, CheckpointSealRow.attempt]
        await self._session.execute(statement.on_conflict_do_update(index_elements=key, set_=latest))

    async def check_checkpoint(self, job: Job, step: int, files: Sequence[ManifestFile]) -> None:
        """Raises SealRefused unless these are exactly the files of the checkpoint that the job's attempt sealed last."""
        wanted = (CheckpointSealRow.job_id == job.id, CheckpointSealRow.attempt == job.attempt)
        seal = (await self._session.execute(select(CheckpointSealRow.step, CheckpointSealRow.manifest_digest).where(*wanted))).one_or_none()
        if seal is None:
            raise SealRefused(f"attempt {job.attempt} has sealed no checkpoint; seal it first")
        if (seal.step, seal.manifest_digest) != (step, manifest_digest([*files])):
            raise SealRefused(f"that is not the checkpoint that attempt {job.attempt} sealed last, which is of step {seal.step}")

    async def check(self, job: Job, draft: VersionDraft) -> None:
        """Raises SealRefused unless the draft's files are exactly those that the job's attempt sealed last, and the dtype of 16-bit
        weights or of an adapter is the one that was found in them."""
        statement = select(SealRow.manifest_digest, SealRow.dtype).where(SealRow.job_id == job.id, SealRow.attempt == job.attempt)
        seal = (await self._session.execute(statement)).one_or_none()
        if seal is None:
            raise SealRefused(f"attempt {job.attempt} has sealed no files; seal them first")
        if seal.manifest_digest != manifest_digest(draft.files):
            raise SealRefused(f"the version's files are not the ones that attempt {job.attempt} sealed last")
        if draft.kind is not VersionKind.QUANTIZED and draft.dtype != seal.dtype:
            raise SealRefused(f"the sealed weights are {seal.dtype}, not {draft.dtype}")
