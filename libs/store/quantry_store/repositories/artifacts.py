"""Files that jobs left beside versions and evidence: raw results."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from sqlalchemy import select
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
        """Notes the files that a held job left; raises SealRefused for one whose bytes are not in the vault."""
        await self._blobs.check_sealed(files)
        self._session.add_all(
            JobArtifactRow(job_id=job.id, path=file.path, project_id=job.project_id, sha256=file.sha256, size_bytes=file.size_bytes)
            for file in files
        )
        await self._session.flush()

    async def list(self, project_id: str, job_id: str) -> builtins.list[ManifestFile]:
        """Returns what a job left, by path. Empty for a job that left nothing or is not there."""
        statement = select(JobArtifactRow).where(JobArtifactRow.project_id == project_id, JobArtifactRow.job_id == job_id)
        rows = await self._session.scalars(statement.order_by(JobArtifactRow.path))
        return [ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]

    async def file(self, project_id: str, job_id: str, path: str) -> ManifestFile:
        """Returns one file that a job left; raises NotFound."""
        for file in await self.list(project_id, job_id):
            if file.path == path:
                return file
        raise NotFound(f"job {job_id!r} left no file {path!r}")
