"""Leases: which attempt holds a job, and until when by the database's clock. Every write of an attempt goes through ``hold``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import StaleAttempt, UnreadableJob
from quantry_core.jobs import Job, JobReason, JobStatus, Queue, WaitingOn
from quantry_store.references import fits_integer
from quantry_store.repositories.jobs import JobRepository, to_job
from quantry_store.tables import JobRow

MAX_JOBS_PER_SWEEP = 100


class LeaseRepository:
    def __init__(self, session: AsyncSession, *, jobs: JobRepository) -> None:
        self._session = session
        self._jobs = jobs

    async def start_unleased(self, job: Job) -> Job:
        """Returns a locked job running in a new attempt without a lease: for deploy jobs, which the controller runs."""
        return await self._jobs.move(job, JobStatus.RUNNING, attempt=JobRow.attempt + 1, num_attempt_events=0)

    async def hold(self, job_id: str, attempt: int) -> Job:
        """Returns the job, its row locked, if ``attempt`` is the one that holds it now; raises StaleAttempt otherwise."""
        return to_job(await self._held_row(job_id, attempt))

    async def hold_stream(self, job_id: str, attempt: int) -> tuple[Job, int]:
        """Returns the job as ``hold`` does, and how many events of the attempt are stored."""
        row = await self._held_row(job_id, attempt)
        return to_job(row), row.num_attempt_events

    async def check(self, job_id: str, attempt: int) -> Job:
        """Returns the job as ``hold`` does, without locking it."""
        row = (await self._session.scalars(select(JobRow).where(_held(job_id, attempt)))).one_or_none()
        if row is None:
            raise _stale(job_id, attempt)
        return to_job(row)

    async def renew(self, job_id: str, attempt: int, *, lease_s: float) -> bool:
        """Sets the lease of the attempt that holds a job to ``lease_s`` seconds from now, in one statement: it is what workers
        send most. Returns whether the job is to be cancelled; raises StaleAttempt."""
        renewed = await self._session.scalars(
            update(JobRow)
            .where(_held(job_id, attempt))
            .values(lease_expires_at=func.now() + timedelta(seconds=lease_s))
            .returning(JobRow.cancel_requested)
            .execution_options(synchronize_session=False)
        )
        cancel_requested = renewed.one_or_none()
        if cancel_requested is None:
            raise _stale(job_id, attempt)
        return cancel_requested

    async def retry(self, job: Job, reason: JobReason, *, message: str | None, delay_s: float, **also: Any) -> Job:
        """Returns the locked job on its way to another attempt because of ``reason``: queued where ``delay_s`` is 0, else waiting
        for so many seconds. ``also`` are columns written with it."""
        also["retries"] = job.retries | {reason: job.retries.get(reason, 0) + 1}
        if delay_s <= 0:
            return await self._jobs.move(job, JobStatus.QUEUED, reason=reason, message=message, **also)
        also |= {"waiting_on": WaitingOn.TIME, "not_before": func.now() + timedelta(seconds=delay_s)}
        return await self._jobs.move(job, JobStatus.WAITING, reason=reason, message=message, **also)

    async def _held_row(self, job_id: str, attempt: int) -> JobRow:
        statement = select(JobRow).where(_held(job_id, attempt)).with_for_update(key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise _stale(job_id, attempt)
        return row

    async def expired(self) -> list[str]:
        """Returns the ids of running jobs whose lease has run out, longest ago first. Deploy jobs have no lease."""
        statement = select(JobRow.id).where(_has_expired()).order_by(JobRow.lease_expires_at).limit(MAX_JOBS_PER_SWEEP)
        return list(await self._session.scalars(statement))

    async def lock_expired(self, job_id: str) -> Job | None:
        """Returns the job, its row locked, if its lease has run out and no other sweep is at it; None otherwise.

        None too after ending one that cannot be read as failed.
        """
        statement = select(JobRow).where(JobRow.id == job_id, _has_expired()).with_for_update(skip_locked=True, key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            return None
        try:
            return to_job(row)
        except UnreadableJob as error:
            await self._jobs.fail_unreadable(row, error)
            return None

    async def held_attempts(self) -> set[tuple[str, int]]:
        """Returns job id and attempt of everything that holds a job now, in every project."""
        rows = await self._session.execute(select(JobRow.id, JobRow.attempt).where(_has_lease()))
        return {(job_id, attempt) for job_id, attempt in rows}

    async def queues_with_work(self) -> list[Queue]:
        """Returns the queues in which a job waits for a worker."""
        statement = select(JobRow.queue).where(JobRow.status == JobStatus.QUEUED, JobRow.queue.is_not(None)).distinct()
        return sorted(queue for queue in await self._session.scalars(statement) if queue is not None)


def _has_lease() -> ColumnElement[bool]:
    return and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at > func.now())


def _has_expired() -> ColumnElement[bool]:
    return and_(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at < func.now())


def _held(job_id: str, attempt: int) -> ColumnElement[bool]:
    if not fits_integer(attempt):
        return false()
    return and_(
        JobRow.id == job_id,
        JobRow.attempt == attempt,
        _has_lease(),
    )


def _stale(job_id: str, attempt: int) -> StaleAttempt:
    return StaleAttempt(f"attempt {attempt} does not hold job {job_id!r}: it ended, was given to another worker, or its lease ran out")
