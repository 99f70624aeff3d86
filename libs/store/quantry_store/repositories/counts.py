"""How much there is to do, over every project: what the sweep and the metrics ask."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.jobs import JobStatus, Queue
from quantry_core.workers import WORKER_ALIVE_S
from quantry_store.repositories.open_jobs import OPEN_STATUSES
from quantry_store.tables import JobRow, WorkerRow


class QueueCount(NamedTuple):
    """How many jobs of a queue are in a status; those in no queue are deploy jobs."""

    queue: Queue | None
    status: JobStatus
    num_jobs: int


class CountRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def unfinished_jobs(self) -> list[QueueCount]:
        """Returns the jobs that have not ended by queue and status; what there is none of is left out.

        A part for each status, because each has a partial index: the time does not grow with the jobs that have ended.
        """
        parts = [
            select(JobRow.queue, literal(status.value), func.count()).where(JobRow.status == status).group_by(JobRow.queue)
            for status in OPEN_STATUSES
        ]
        rows = await self._session.execute(union_all(*parts))
        return [QueueCount(queue, JobStatus(status), num_jobs) for queue, status, num_jobs in rows]

    async def alive_workers(self) -> int:
        """Returns how many workers were heard of within WORKER_ALIVE_S seconds, by the database's clock."""
        statement = select(func.count()).where(WorkerRow.last_seen_at > func.now() - timedelta(seconds=WORKER_ALIVE_S))
        return int((await self._session.scalars(statement)).one())
