"""Event streams of jobs. ``seq`` counts 1, 2, 3 ... within a job without a hole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownJob
from quantry_core.execution import EventDraft
from quantry_core.jobs import CurvePoint, EventKind, JobEvent, read_metrics
from quantry_core.retention import Over, Removed
from quantry_store.references import MAX_INTEGER, fits_integer
from quantry_store.tables import JobEventRow, JobRow
from quantry_store.tables.base import stored_size

MAX_EVENTS_PER_READ = 1000
PASSING_KINDS = (EventKind.LOG, EventKind.PROGRESS, EventKind.METRICS)
"""Events that tell how a job went and are kept for a while only. Whole curves are among a training job's artifacts."""

MAX_METRICS_PER_READ = 200_000


class EventRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def append(self, job_id: str, attempt: int, drafts: Sequence[EventDraft], **also: Any) -> int:
        """Returns the last seq of the job after appending ``drafts`` in order, and writing ``also``, columns of the job; raises UnknownJob.

        Not fenced: callers on behalf of a worker hold the job by ``leases.hold`` first.
        """
        # The counter lives on the job's row: counting under its lock is what makes seq gapless, and readers never see 8 before 7.
        counted = await self._session.execute(
            update(JobRow)
            .where(JobRow.id == job_id)
            .values(last_seq=JobRow.last_seq + len(drafts), **also)
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

    async def last_seq(self, project_id: str, job_id: str) -> int:
        """Returns the seq of a job's newest event; raises UnknownJob."""
        statement = select(JobRow.last_seq).where(JobRow.id == job_id, JobRow.project_id == project_id)
        last_seq = (await self._session.scalars(statement)).one_or_none()
        if last_seq is None:
            raise UnknownJob(f"there is no job {job_id!r}")
        return last_seq

    async def delete_logs(self, retention_s: float, *, max_jobs: int) -> Removed:
        """Deletes log, progress and metrics of at most ``max_jobs`` jobs that ended ``retention_s`` seconds ago; returns how many rows
        that were."""
        old = (
            select(JobRow.id)
            .where(JobRow.finished_at < func.now() - timedelta(seconds=retention_s), JobRow.log_deleted_at.is_(None))
            .order_by(JobRow.finished_at)
            .limit(max_jobs)
            .with_for_update(skip_locked=True, key_share=True)
        )
        job_ids = (await self._session.scalars(old)).all()
        if not job_ids:
            return Removed(0)
        told = delete(JobEventRow).where(JobEventRow.job_id.in_(job_ids), JobEventRow.kind.in_(PASSING_KINDS))
        sizes = (await self._session.scalars(told.returning(stored_size(JobEventRow)))).all()
        await self._session.execute(
            update(JobRow).where(JobRow.id.in_(job_ids)).values(log_deleted_at=func.now()).execution_options(synchronize_session=False)
        )
        return Removed(len(sizes), sum(sizes), has_more=True)

    async def old_logs(self, retention_s: float) -> Over:
        """Returns what ``delete_logs`` would delete of all jobs together."""
        of_old = select(JobRow.id).where(JobRow.finished_at < func.now() - timedelta(seconds=retention_s), JobRow.log_deleted_at.is_(None))
        counted = select(func.count(), func.coalesce(func.sum(stored_size(JobEventRow)), 0))
        found = await self._session.execute(counted.where(JobEventRow.job_id.in_(of_old), JobEventRow.kind.in_(PASSING_KINDS)))
        num, size_bytes = found.one()
        return Over(num, int(size_bytes))

    async def oldest_log_at(self) -> datetime | None:
        """Returns when the job ended that ended first of those that may have a log; None where there is none."""
        return await self._session.scalar(
            select(func.min(JobRow.finished_at)).where(JobRow.finished_at.is_not(None), JobRow.log_deleted_at.is_(None))
        )

    async def after(
        self,
        project_id: str,
        job_id: str,
        seq: int,
        limit: int = MAX_EVENTS_PER_READ,
        *,
        kinds: Collection[EventKind] = frozenset(EventKind),
    ) -> list[JobEvent]:
        """Returns up to ``limit`` events of these kinds with a greater seq, in order; an empty list for another project's job."""
        statement = (
            select(JobEventRow)
            .where(JobEventRow.job_id == job_id, JobEventRow.project_id == project_id, JobEventRow.seq > min(seq, MAX_INTEGER))
            .order_by(JobEventRow.seq)
            .limit(min(limit, MAX_EVENTS_PER_READ))
        )
        if len(kinds) < len(EventKind):
            statement = statement.where(JobEventRow.kind.in_(kinds))
        return [_event(row) for row in await self._session.scalars(statement)]

    async def newest(
        self, project_id: str, job_id: str, limit: int, *, kinds: Collection[EventKind], before: int | None = None
    ) -> list[JobEvent]:
        """Returns the last ``limit`` events of these kinds, newest first, with a seq less than ``before`` where that is given; an empty
        list for another project's job."""
        statement = select(JobEventRow).where(
            JobEventRow.job_id == job_id, JobEventRow.project_id == project_id, JobEventRow.kind.in_(kinds)
        )
        if before is not None:
            statement = statement.where(JobEventRow.seq < min(before, MAX_INTEGER))
        statement = statement.order_by(JobEventRow.seq.desc()).limit(min(limit, MAX_EVENTS_PER_READ))
        return [_event(row) for row in await self._session.scalars(statement)]

    async def logs(self, project_id: str, job_id: str, attempt: int | None = None, *, tail: int | None = None) -> list[JobEvent]:
        """Returns the log events of a job in order, of one attempt or of all, the last ``tail`` where that is given.

        A worker sends at most some thousand an attempt.
        """
        statement = select(JobEventRow).where(
            JobEventRow.job_id == job_id, JobEventRow.project_id == project_id, JobEventRow.kind == EventKind.LOG
        )
        if attempt is not None and not fits_integer(attempt):
            return []
        if attempt is not None:
            statement = statement.where(JobEventRow.attempt == attempt)
        # From the end, so that a tail reads no more than itself. No limit is none in SQL too.
        rows = await self._session.scalars(statement.order_by(JobEventRow.seq.desc()).limit(tail))
        return [_event(row) for row in reversed(rows.all())]

    async def metrics(self, project_id: str, job_id: str) -> list[CurvePoint]:
        """Returns what the attempts of a job measured, in the order they told it; an empty list for another project's job.

        A worker sends some thousand an attempt; of more than MAX_METRICS_PER_READ the last are returned.
        """
        statement = (
            select(JobEventRow.attempt, JobEventRow.data, JobEventRow.created_at)
            .where(JobEventRow.job_id == job_id, JobEventRow.project_id == project_id, JobEventRow.kind == EventKind.METRICS)
            .order_by(JobEventRow.seq.desc())
            .limit(MAX_METRICS_PER_READ)
        )
        points: list[CurvePoint] = []
        for attempt, data, created_at in reversed((await self._session.execute(statement)).all()):
            step, values = read_metrics(data)
            points.append(CurvePoint(step=step, attempt=attempt, values=values, created_at=created_at))
        return points


def _event(row: JobEventRow) -> JobEvent:
    return JobEvent(seq=row.seq, job_id=row.job_id, attempt=row.attempt, kind=row.kind, data=row.data, created_at=row.created_at)
