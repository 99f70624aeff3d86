"""What jobs need of each other: edges that are open until the needed job has succeeded."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Select, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownJob
from quantry_core.jobs import JobStatus, JobType
from quantry_core.outputs import kind_made
from quantry_core.versions import VersionKind
from quantry_store.tables import JobNeedRow, JobRow


class NeededJob(NamedTuple):
    """What is asked about a job that another one needs."""

    id: str
    type: JobType
    status: JobStatus
    step: str | None
    version_id: str | None
    """The version it made."""
    adapter: str | None
    """What its spec has by that name; of a fine-tune job it decides what is made."""

    @property
    def makes(self) -> VersionKind | None:
        """The kind of version that it makes, None if it makes none."""
        return kind_made(self.type, adapter=self.adapter)

    @property
    def title(self) -> str:
        """How a sentence names it."""
        return f"job {self.id}" if self.step is None else f"job {self.id} (step {self.step!r})"


class NeedRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def load(self, project_id: str, job_ids: Collection[str]) -> dict[str, NeededJob]:
        """Returns jobs of a project by id, in the order of ``job_ids``; raises UnknownJob for the first that is not there."""
        statement = _needed().where(JobRow.project_id == project_id, JobRow.id.in_(job_ids))
        found = {row[0]: NeededJob(*row) for row in await self._session.execute(statement)}
        for job_id in job_ids:
            if job_id not in found:
                raise UnknownJob(f"there is no job {job_id!r}")
        return {job_id: found[job_id] for job_id in job_ids}

    async def open(self, job_id: str) -> list[NeededJob]:
        """Returns the jobs that a job still needs, as far as its edges were looked at, oldest first."""
        statement = (
            _needed()
            .join(JobNeedRow, JobNeedRow.needed_job_id == JobRow.id)
            .where(JobNeedRow.job_id == job_id, ~JobNeedRow.is_settled)
            .order_by(JobRow.id)
        )
        return [NeededJob(*row) for row in await self._session.execute(statement)]

    async def settle(self, job_id: str, needed_job_ids: Collection[str]) -> None:
        """Notes that these needs of a job hold nothing back any more."""
        if not needed_job_ids:
            return
        await self._session.execute(
            update(JobNeedRow)
            .where(JobNeedRow.job_id == job_id, JobNeedRow.needed_job_id.in_(needed_job_ids))
            .values(is_settled=True)
            .execution_options(synchronize_session=False)
        )


def _needed() -> Select[str, JobType, JobStatus, str | None, str | None, str | None]:
    made, adapter = func.jsonb_extract_path_text(JobRow.result, "version_id"), func.jsonb_extract_path_text(JobRow.spec, "adapter")
    return select(JobRow.id, JobRow.type, JobRow.status, JobRow.step, made, adapter)
