"""Jobs: read, made, locked, and moved from state to state by the one setter there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownJob
from quantry_core.execution import EventDraft
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import (
    FINAL_STATUSES,
    JOB_QUEUES,
    EventKind,
    Job,
    JobInput,
    JobReason,
    JobResult,
    JobSpec,
    JobStatus,
    JobType,
    Progress,
    check_transition,
)
from quantry_core.methods import Environment
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_store.repositories.events import EventRepository
from quantry_store.repositories.paging import load_page
from quantry_store.tables import JobRow

FIRST_STATUS = JobStatus.QUEUED


class JobRepository:
    def __init__(self, session: AsyncSession, *, events: EventRepository) -> None:
        self._session = session
        self._events = events

    async def get(self, project_id: str, job_id: str) -> Job:
        """Returns a job; raises UnknownJob."""
        statement = select(JobRow).where(JobRow.id == job_id, JobRow.project_id == project_id)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise UnknownJob(f"there is no job {job_id!r}")
        return to_job(row)

    async def list(
        self,
        project_id: str,
        *,
        after: str | None = None,
        limit: int = DEFAULT_LIMIT,
        status: JobStatus | None = None,
        type: JobType | None = None,
    ) -> Page[Job]:
        """Returns a page of a project's jobs, newest first, of one status and one type where they are given."""
        statement = select(JobRow).where(JobRow.project_id == project_id)
        if status is not None:
            statement = statement.where(JobRow.status == status)
        if type is not None:
            statement = statement.where(JobRow.type == type)
        return await load_page(self._session, statement, JobRow.id, lambda row: to_job(row[0]), after=after, limit=limit)

    async def add(
        self,
        project_id: str,
        spec: JobSpec,
        *,
        inputs: Sequence[JobInput],
        priority: int,
        environment: Environment | None,
        created_by_key_id: str,
    ) -> Job:
        """Returns a new queued job with its first state event."""
        row = JobRow(
            id=new_id(IdPrefix.JOB),
            project_id=project_id,
            type=spec.type,
            status=FIRST_STATUS,
            spec=spec.model_dump(mode="json"),
            inputs=[item.model_dump(mode="json") for item in inputs],
            queue=JOB_QUEUES[spec.type],
            environment=environment,
            priority=priority,
            created_by_key_id=created_by_key_id,
        )
        self._session.add(row)
        await self._session.flush()
        await self._events.append(row.id, 0, [_state_event(FIRST_STATUS, None, None)])
        return to_job(row)

    async def lock(self, project_id: str, job_id: str) -> Job:
        """Returns a job with its row locked until the transaction ends; raises UnknownJob. The first lock of a transaction."""
        statement = select(JobRow).where(JobRow.id == job_id, JobRow.project_id == project_id).with_for_update(key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise UnknownJob(f"there is no job {job_id!r}")
        return to_job(row)

    async def move(self, job: Job, status: JobStatus, *, reason: JobReason | None = None, message: str | None = None) -> Job:
        """Returns the job in its new state: the only setter of a status. Writes the state event of the move.

        ``job`` must have been locked in this transaction. Raises IllegalTransition where the table has no such move.
        """
        return to_job(await self._move(job.id, job.status, status, reason, message))

    async def fail_unreadable(self, row: JobRow, error: ValidationError) -> None:
        """Ends a locked job, queued or running, whose row holds no job of this release: failed, with what is wrong with it.

        Through running, as the table wants it, and with an attempt that nobody held.
        """
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        message = f"the record of this job cannot be read by this release ({place}: {problem['msg']})"
        status = row.status
        if status is JobStatus.QUEUED:
            await self._write(row.id, attempt=JobRow.attempt + 1)
            status = (await self._move(row.id, status, JobStatus.RUNNING, None, None)).status
        await self._move(row.id, status, JobStatus.FAILED, JobReason.INTERNAL, message)

    async def _move(self, job_id: str, old: JobStatus, status: JobStatus, reason: JobReason | None, message: str | None) -> JobRow:
        check_transition(old, status)
        values: dict[str, Any] = {"status": status, "reason": reason, "message": message}
        if status is JobStatus.RUNNING:
            values |= {"started_at": func.now(), "progress": None}
        else:
            values |= {"lease_expires_at": None, "worker_id": None}
        if status is JobStatus.QUEUED:
            values |= {"progress": None}
        if status in FINAL_STATUSES:
            values |= {"finished_at": func.now()}
        moved = await self._write(job_id, **values)
        await self._events.append(moved.id, moved.attempt, [_state_event(status, reason, message)])
        return moved

    async def request_cancel(self, job: Job) -> Job:
        """Returns the locked job with its cancel flag set; whoever runs it looks at the flag."""
        flagged = await self.write(job.id, cancel_requested=True)
        note = EventDraft(kind=EventKind.NOTE, data={"text": "cancellation was requested"})
        await self._events.append(job.id, job.attempt, [note])
        return flagged

    async def set_result(self, job: Job, result: JobResult) -> Job:
        """Returns the locked job with its result."""
        return await self.write(job.id, result=result.model_dump(mode="json"))

    async def set_progress(self, job: Job, progress: Progress) -> Job:
        """Returns the locked job with its progress."""
        return await self.write(job.id, progress=progress.model_dump(mode="json"))

    async def write(self, job_id: str, **values: Any) -> Job:
        """Returns the job with columns other than its status written; for this package only, under the row's lock."""
        return to_job(await self._write(job_id, **values))

    async def _write(self, job_id: str, **values: Any) -> JobRow:
        rows = await self._session.scalars(
            update(JobRow).where(JobRow.id == job_id).values(**values).returning(JobRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        return rows.one()


def _state_event(status: JobStatus, reason: JobReason | None, message: str | None) -> EventDraft:
    return EventDraft(kind=EventKind.STATE, data={"status": status, "reason": reason, "message": message})


def to_job(row: JobRow) -> Job:
    """Returns the job a row holds, its spec validated again; raises ValidationError where this release cannot read it."""
    return Job.model_validate(
        {
            "id": row.id,
            "project_id": row.project_id,
            "type": row.type,
            "status": row.status,
            "reason": row.reason,
            "message": row.message,
            "spec": row.spec,
            "inputs": row.inputs,
            "queue": row.queue,
            "priority": row.priority,
            "attempt": row.attempt,
            "num_lost_attempts": row.num_lost_attempts,
            "cancel_requested": row.cancel_requested,
            "progress": row.progress,
            "result": row.result,
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
        }
    )
