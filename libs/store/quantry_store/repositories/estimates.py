"""How well earlier jobs were estimated."""

from __future__ import annotations

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.estimates import MAX_EARLIER_JOBS, EarlierJob, actual_figures
from quantry_core.jobs import Estimate, JobResult, JobStatus
from quantry_store.tables import JobRow, VersionRow


class EstimateRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def earlier(self, key: str) -> list[EarlierJob]:
        """Returns the last MAX_EARLIER_JOBS jobs with that key that succeeded, of every project, the latest first.

        Jobs that reused a version ran nothing and are left out, as are those that this release cannot read.
        """
        statement = (
            select(JobRow.estimate, JobRow.result, VersionRow.weights_bytes)
            .join(VersionRow, VersionRow.job_id == JobRow.id, isouter=True)
            .where(JobRow.estimate_key == key, JobRow.status == JobStatus.SUCCEEDED, JobRow.attempt > 0)
            .order_by(JobRow.finished_at.desc())
            .limit(MAX_EARLIER_JOBS)
        )
        jobs: list[EarlierJob] = []
        for estimate, result, weights_bytes in await self._session.execute(statement):
            try:
                estimated = Estimate.model_validate(estimate).uncorrected
                actual = actual_figures(JobResult.model_validate(result), weights_bytes)
            except ValidationError:
                continue
            jobs.append(EarlierJob(estimated, actual))
        return jobs
