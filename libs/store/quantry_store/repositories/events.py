"""Event streams of jobs. ``seq`` counts 1, 2, 3 ... within a job without a hole."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownJob
from quantry_core.execution import EventDraft
from quantry_core.jobs import EventKind, JobEvent
from quantry_store.references import MAX_INTEGER, fits_integer
from quantry_store.tables import JobEventRow, JobRow

MAX_EVENTS_PER_READ = 1000


class EventRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def append(self, job_id: str, attempt: int, drafts: Sequence[EventDraft]) -> int:
        """Returns the last seq of the job after appending ``drafts`` in order; raises UnknownJob.

        Not fenced: callers on behalf of a worker hold the job by ``leases.hold`` first.
        """
        # The counter lives on the job's row: counting under its lock is what makes seq gapless, and readers never see 8 before 7.
        counted = await self._session.execute(
            update(JobRow)
            .where(JobRow.id == job_id)
            .values(last_seq=JobRow.last_seq + len(drafts))
            .returning(JobRow.last_seq, JobRow.project_id)
            .execution_options(synchronize_session=False)
        )
        job = counted.one_or_none()
        if job is None:
            raise UnknownJob(f"there is no job {job_id!r}")
        last_seq, project_id = job
        first_seq = last_seq - len(drafts) + 1
        self._session.add_all(
            JobEventRow(job_id=job_id, seq=seq, project_id=project_id, attempt=attempt, kind=draft.kind, data=draft.data)
            for seq, draft in enumerate(drafts, start=first_seq)
        )
        await self._session.flush()
        return last_seq

    async def after(self, project_id: str, job_id: str, seq: int, limit: int = MAX_EVENTS_PER_READ) -> list[JobEvent]:
        """Returns up to ``limit`` events with a greater seq, in order; an empty list for another project's job."""
        statement = (
            select(JobEventRow)
            .where(JobEventRow.job_id == job_id, JobEventRow.project_id == project_id, JobEventRow.seq > min(seq, MAX_INTEGER))
            .order_by(JobEventRow.seq)
            .limit(min(limit, MAX_EVENTS_PER_READ))
        )
        return [_event(row) for row in await self._session.scalars(statement)]

    async def logs(self, project_id: str, job_id: str, attempt: int | None = None) -> list[JobEvent]:
        """Returns the log events of a job in order, of one attempt or of all. A worker sends at most some thousand an attempt."""
        statement = select(JobEventRow).where(
            JobEventRow.job_id == job_id, JobEventRow.project_id == project_id, JobEventRow.kind == EventKind.LOG
        )
        if attempt is not None and not fits_integer(attempt):
            return []
        if attempt is not None:
            statement = statement.where(JobEventRow.attempt == attempt)
        return [_event(row) for row in await self._session.scalars(statement.order_by(JobEventRow.seq))]


def _event(row: JobEventRow) -> JobEvent:
    return JobEvent(seq=row.seq, job_id=row.job_id, attempt=row.attempt, kind=row.kind, data=row.data, created_at=row.created_at)
