"""Leases: which attempt holds a job, and until when by the database's clock. Every write of an attempt goes through ``hold``."""

from __future__ import annotations

from datetime import timedelta

from pydantic import ValidationError
from sqlalchemy import ColumnElement, and_, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import StaleAttempt
from quantry_core.execution import NextRequest
from quantry_core.jobs import Job, JobStatus, JobType, Queue
from quantry_store.references import fits_integer
from quantry_store.repositories.jobs import JobRepository, to_job
from quantry_store.tables import JobRow

MAX_JOBS_PER_SWEEP = 100


class LeaseRepository:
    def __init__(self, session: AsyncSession, *, jobs: JobRepository) -> None:
        self._session = session
        self._jobs = jobs

    async def claim(self, project_id: str, request: NextRequest, *, lease_s: float) -> Job | None:
        """Returns the next job of the queue, running in a new attempt with a lease of ``lease_s`` seconds; None if there is none.

        First by priority (0 first), then by age. Only jobs whose child environment the worker can start. Jobs that another
        claim is just taking are skipped, so claimers never wait for each other. A job that cannot be read is ended as failed
        and the next one taken; one of a type that this release does not know is left to others.
        """
        while (row := await self._next_queued(project_id, request)) is not None:
            if await self._readable(row) is None:
                continue
            job = await self._jobs.write(
                row.id,
                attempt=JobRow.attempt + 1,
                worker_id=request.worker_id,
                lease_expires_at=func.now() + timedelta(seconds=lease_s),
            )
            return await self._jobs.move(job, JobStatus.RUNNING)
        return None

    async def _next_queued(self, project_id: str, request: NextRequest) -> JobRow | None:
        statement = (
            select(JobRow)
            .where(
                JobRow.project_id == project_id,
                JobRow.queue == request.queue,
                JobRow.status == JobStatus.QUEUED,
                JobRow.type.in_(list(JobType)),
                or_(JobRow.environment.is_(None), JobRow.environment.in_(request.environments)),
            )
            .order_by(JobRow.priority, JobRow.created_at, JobRow.id)
            .limit(1)
            .with_for_update(skip_locked=True, key_share=True)
        )
        return (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()

    async def _readable(self, row: JobRow) -> Job | None:
        """Returns the job of a locked row; None after ending one that this release cannot read."""
        try:
            return to_job(row)
        except ValidationError as error:
            await self._jobs.fail_unreadable(row, error)
            return None

    async def start_unleased(self, job: Job) -> Job:
        """Returns a locked job running in a new attempt without a lease: for deploy jobs, which the controller runs."""
        return await self._jobs.move(await self._jobs.write(job.id, attempt=JobRow.attempt + 1), JobStatus.RUNNING)

    async def hold(self, project_id: str, job_id: str, attempt: int) -> Job:
        """Returns the job, its row locked, if ``attempt`` is the one that holds it now; raises StaleAttempt otherwise."""
        statement = select(JobRow).where(_held(project_id, job_id, attempt)).with_for_update(key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise _stale(job_id, attempt)
        return to_job(row)

    async def check(self, project_id: str, job_id: str, attempt: int) -> Job:
        """Returns the job as ``hold`` does, without locking it."""
        row = (await self._session.scalars(select(JobRow).where(_held(project_id, job_id, attempt)))).one_or_none()
        if row is None:
            raise _stale(job_id, attempt)
        return to_job(row)

    async def renew(self, job: Job, *, lease_s: float) -> Job:
        """Returns a held job with its lease set to ``lease_s`` seconds from now."""
        return await self._jobs.write(job.id, lease_expires_at=func.now() + timedelta(seconds=lease_s))

    async def count_lost(self, job: Job) -> Job:
        """Returns the locked job with one more lost attempt."""
        return await self._jobs.write(job.id, num_lost_attempts=JobRow.num_lost_attempts + 1)

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
        return None if row is None else await self._readable(row)

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


def _held(project_id: str, job_id: str, attempt: int) -> ColumnElement[bool]:
    if not fits_integer(attempt):
        return false()
    return and_(
        JobRow.id == job_id,
        JobRow.project_id == project_id,
        JobRow.attempt == attempt,
        _has_lease(),
    )


def _stale(job_id: str, attempt: int) -> StaleAttempt:
    return StaleAttempt(f"attempt {attempt} does not hold job {job_id!r}: it ended, was given to another worker, or its lease ran out")
