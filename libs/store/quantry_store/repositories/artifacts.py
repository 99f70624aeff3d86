"""Files that jobs left beside versions and evidence: raw results."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import NotFound
from quantry_core.jobs import Job
from quantry_core.versions import ManifestFile
from quantry_store.repositories.blobs import BlobRepository
from quantry_store.tables import JobArtifactRow


class ArtifactRepository:
    def __init__(self, session: AsyncSession, *, blobs: BlobRepository) -> None:
        self._session = session
        self._blobs = blobs

    async def add(self, job: Job, files: Sequence[ManifestFile]) -> None:
        """Notes the files that a held job left, whose seal was checked; raises SealRefused for bytes that are not in the vault."""
        await self._blobs.check_sealed(files)
        self._session.add_all(
            JobArtifactRow(job_id=job.id, path=file.path, project_id=job.project_id, sha256=file.sha256, size_bytes=file.size_bytes)
            for file in files
        )
        await self._session.flush()

    async def list(self, project_id: str, job_id: str) -> builtins.list[ManifestFile]:
        """Returns what a job left, by path. Empty for a job that left nothing or is not there."""
        rows = await self._session.scalars(_left_by(project_id, job_id).order_by(JobArtifactRow.path))
        return [ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]

    async def file(self, project_id: str, job_id: str, path: str) -> ManifestFile:
        """Returns one file that a job left; raises NotFound."""
        row = (await self._session.scalars(_left_by(project_id, job_id).where(JobArtifactRow.path == path))).one_or_none()
        if row is None:
            raise NotFound(f"job {job_id!r} left no file {path!r}")
        return ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256)


def _left_by(project_id: str, job_id: str) -> Select[JobArtifactRow]:
    return select(JobArtifactRow).where(JobArtifactRow.project_id == project_id, JobArtifactRow.job_id == job_id)
