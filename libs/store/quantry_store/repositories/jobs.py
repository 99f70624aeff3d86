"""Jobs: read, made, locked, and moved from state to state by the one setter there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Select, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import IllegalTransition, UnknownJob, UnreadableJob
from quantry_core.execution import EventDraft
from quantry_core.fingerprints import fingerprint
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import (
    FINAL_STATUSES,
    FIRST_STATUSES,
    Estimate,
    EventKind,
    Job,
    JobInput,
    JobOptions,
    JobReason,
    JobResult,
    JobSpec,
    JobStatus,
    JobType,
    Progress,
    Queue,
    Requirement,
    WaitingOn,
    check_transition,
)
from quantry_core.methods import Environment
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.traces import carried_traceparent
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.events import EventRepository
from quantry_store.repositories.labels import label_conditions
from quantry_store.repositories.moves import Move, moving, state_event
from quantry_store.repositories.paging import load_page
from quantry_store.tables import JobEventRow, JobNeedRow, JobRow


@dataclass(frozen=True)
class NewJob:
    """All that a job's row begins with. ``status`` is one of FIRST_STATUSES; ``result`` is for one that begins as succeeded."""

    spec: JobSpec
    options: JobOptions
    inputs: Sequence[JobInput]
    status: JobStatus = JobStatus.QUEUED
    waiting_on: WaitingOn | None = None
    needs: Sequence[str] = ()
    queue: Queue | None = None
    environment: Environment | None = None
    estimate: Estimate | None = None
    recipe_digest: str | None = None
    pipeline_id: str | None = None
    step: str | None = None
    schedule_id: str | None = None
    retry_of: str | None = None
    result: JobResult | None = None
    message: str | None = None


class JobRepository:
    def __init__(self, session: AsyncSession, *, events: EventRepository, audit: AuditRepository) -> None:
        self._session = session
        self._events = events
        self._audit = audit
        self.ended: list[JobRow] = []
        """Jobs that this transaction ended; whoever counts reads it after the commit."""
        self.num_lost = 0
        """Attempts that this transaction counted as lost."""

    def counted(self) -> tuple[int, int]:
        """Returns how many jobs this transaction ended so far, and how many attempts it counted as lost."""
        return len(self.ended), self.num_lost

    def forget_after(self, counted: tuple[int, int]) -> None:
        """Takes back what was counted since ``counted``: the savepoint in which it happened was."""
        num_ended, self.num_lost = counted
        del self.ended[num_ended:]

    async def get(self, project_id: str, job_id: str) -> Job:
        """Returns a job; raises UnknownJob, UnreadableJob."""
        return await self._one(select(JobRow).where(JobRow.id == job_id, JobRow.project_id == project_id), job_id)

    async def list(
        self,
        project_id: str,
        *,
        after: str | None = None,
        limit: int = DEFAULT_LIMIT,
        status: JobStatus | None = None,
        type: JobType | None = None,
        labels: Sequence[Requirement] = (),
        pipeline_id: str | None = None,
        schedule_id: str | None = None,
        queue: Queue | None = None,
        uses: str | None = None,
    ) -> Page[Job]:
        """Returns a page of a project's jobs, newest first, narrowed to what is given; ``labels`` must all hold.

        ``uses``: the id of a version or dataset that is among a job's inputs.

        A job that this release cannot read is left out, so that it hides no other; ``get`` says what is wrong with it.
        """
        statement = select(JobRow).where(
            JobRow.project_id == project_id, JobRow.type.in_(list(JobType)), *label_conditions(JobRow.labels, labels)
        )
        wanted = {
            JobRow.status: status,
            JobRow.type: type,
            JobRow.pipeline_id: pipeline_id,
            JobRow.schedule_id: schedule_id,
            JobRow.queue: queue,
        }
        statement = statement.where(*(column == value for column, value in wanted.items() if value is not None))
        if uses is not None:
            statement = statement.where(or_(*(JobRow.inputs.contains([{name: uses}]) for name in ("version_id", "dataset_id"))))
        return await load_page(self._session, statement, JobRow.id, lambda row: _readable(row[0]), after=after, limit=limit)

    async def add(self, project_id: str, new: NewJob, *, created_by_key_id: str) -> Job:
        """Returns a new job with its first state event. What it needs becomes rows of job_needs."""
        if new.status not in FIRST_STATUSES:
            raise IllegalTransition(f"a job does not begin as {new.status}")
        options = new.options
        values: dict[str, Any] = {
            "id": new_id(IdPrefix.JOB),
            "project_id": project_id,
            "type": new.spec.type,
            "status": new.status,
            "reason": JobReason.COMPLETED if new.status is JobStatus.SUCCEEDED else None,
            "waiting_on": new.waiting_on,
            "message": new.message,
            "spec": new.spec.model_dump(mode="json"),
            "inputs": [item.model_dump(mode="json") for item in new.inputs],
            "queue": new.queue,
            "environment": new.environment,
            "priority": options.priority,
            "time_limit_s": options.limits.time_s,
            "memory_limit_bytes": options.limits.memory_bytes,
            "not_before": options.not_before,
            "needs": list(new.needs),
            "labels": options.labels,
            "metadata_": options.metadata,
            "force": options.force,
            "pipeline_id": new.pipeline_id,
            "step": new.step,
            "schedule_id": new.schedule_id,
            "retry_of": new.retry_of,
            "estimate": None if new.estimate is None else new.estimate.model_dump(mode="json"),
            "estimate_key": None if new.estimate is None else new.estimate.key,
            "recipe_digest": new.recipe_digest,
            "retries": {},
            "result": None if new.result is None else new.result.model_dump(mode="json"),
            "finished_at": func.now() if new.status in FINAL_STATUSES else None,
            "created_by_key_id": created_by_key_id,
            "traceparent": carried_traceparent(),
            "last_seq": 1,
        }
        row = (await self._session.scalars(insert(JobRow).values(values).returning(JobRow))).one()
        event = state_event(row.status, row.reason, row.message)
        self._session.add(JobEventRow(job_id=row.id, seq=row.last_seq, project_id=project_id, attempt=0, kind=event.kind, data=event.data))
        self._session.add_all(JobNeedRow(job_id=row.id, needed_job_id=needed, project_id=project_id) for needed in dict.fromkeys(new.needs))
        await self._session.flush()
        self._count(row, {})
        return to_job(row)

    async def created_by(self, job_id: str) -> str | None:
        """Returns the id of the key that submitted a job; None if there is no such job."""
        return (await self._session.scalars(select(JobRow.created_by_key_id).where(JobRow.id == job_id))).one_or_none()

    async def traceparent(self, job_id: str) -> str | None:
        """Returns the span that submitted a job; None where traces were off then."""
        return (await self._session.scalars(select(JobRow.traceparent).where(JobRow.id == job_id))).one_or_none()

    async def lock(self, project_id: str, job_id: str) -> Job:
        """Returns a job with its row locked until the transaction ends; raises UnknownJob, UnreadableJob. The first lock of a
        transaction."""
        statement = select(JobRow).where(JobRow.id == job_id, JobRow.project_id == project_id)
        return await self._one(statement.with_for_update(key_share=True), job_id)

    async def _one(self, statement: Select[JobRow], job_id: str) -> Job:
        with knowing_words(f"job {job_id}"):
            row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise UnknownJob(f"there is no job {job_id!r}")
        return to_job(row)

    async def move(self, job: Job, status: JobStatus, *, reason: JobReason | None = None, message: str | None = None, **also: Any) -> Job:
        """Returns the job in its new state: the only setter of a status. Writes the state event of the move, and ``also``: columns
        that change with it, for this package only.

        ``job`` must have been locked in this transaction. Raises IllegalTransition where the table has no such move.
        """
        return to_job(await self._move(job.id, job.status, Move(status, reason, message, also)))

    async def start(self, starting: Select[JobRow], parameters: Mapping[str, Any]) -> JobRow | None:
        """Returns the row of the job that a statement of ``moves.starting`` started; None if it found none to start."""
        row = (await self._session.scalars(starting, parameters, execution_options={"populate_existing": True})).one_or_none()
        if row is not None:
            self._note(row)
        return row

    async def fail_unreadable(self, row: JobRow, error: UnreadableJob) -> None:
        """Ends a locked job, waiting or running, whose row holds no job of this release: failed, with what is wrong with it."""
        await self._move(row.id, row.status, Move(JobStatus.FAILED, JobReason.INTERNAL, error.detail, {}))

    async def _move(self, job_id: str, old: JobStatus, move: Move) -> JobRow:
        check_transition(old, move.status)
        moved = await self._moved(select(JobRow.id).where(JobRow.id == job_id), move)
        if moved is None:
            raise UnknownJob(f"there is no job {job_id!r}")
        if old is JobStatus.WAITING and move.status in FINAL_STATUSES:
            # What it needed says nothing any more, and the release of waiting jobs begins at open edges.
            await self._session.execute(
                update(JobNeedRow)
                .where(JobNeedRow.job_id == job_id, ~JobNeedRow.is_settled)
                .values(is_settled=True)
                .execution_options(synchronize_session=False)
            )
        return moved

    async def _moved(self, chosen: Select[str], move: Move) -> JobRow | None:
        statement = moving(chosen, move)
        moved = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if moved is not None:
            self._count(moved, move.also)
            self._note(moved)
        return moved

    def _note(self, row: JobRow) -> None:
        facts = {"type": row.type, "attempt": row.attempt, "reason": row.reason, "worker_id": row.worker_id}
        self._audit.note_move("job", row.id, row.status, facts, project_id=row.project_id)

    def _count(self, row: JobRow, written: Mapping[str, Any]) -> None:
        if row.status in FINAL_STATUSES:
            self.ended.append(row)
        if "num_lost_attempts" in written:
            self.num_lost += 1

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

    async def fingerprint(self, job_id: str) -> str | None:
        """Returns the fingerprint of what a job makes with the toolchain that claimed it; None for a job that has no recipe."""
        statement = select(JobRow.recipe_digest, JobRow.toolchain_digest).where(JobRow.id == job_id)
        recipe, toolchain = (await self._session.execute(statement)).one()
        return None if recipe is None or toolchain is None else fingerprint(recipe, toolchain)

    async def write(self, job_id: str, **values: Any) -> Job:
        """Returns the job with columns other than its status written; for this package only, under the row's lock."""
        return to_job(await self._write(job_id, **values))

    async def _write(self, job_id: str, **values: Any) -> JobRow:
        rows = await self._session.scalars(
            update(JobRow).where(JobRow.id == job_id).values(**values).returning(JobRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        return rows.one()


def to_job(row: JobRow) -> Job:
    """Returns the job a row holds, its spec validated again; raises UnreadableJob where this release cannot read it."""
    try:
        return _validated(row)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UnreadableJob(f"the record of job {row.id} cannot be read by this release ({place}: {problem['msg']})") from error


@contextmanager
def knowing_words(what: str) -> Iterator[None]:
    """Makes reading rows raise UnreadableJob, naming ``what``, where they hold a type or another word of a newer release."""
    try:
        yield
    except LookupError as error:
        raise UnreadableJob(f"the record of {what} cannot be read by this release ({error})") from error


def _readable(row: JobRow) -> Job | None:
    try:
        return to_job(row)
    except UnreadableJob:
        return None


def _validated(row: JobRow) -> Job:
    return Job.model_validate(
        {
            "id": row.id,
            "project_id": row.project_id,
            "type": row.type,
            "status": row.status,
            "reason": row.reason,
            "waiting_on": row.waiting_on,
            "message": row.message,
            "spec": row.spec,
            "inputs": row.inputs,
            "queue": row.queue,
            "priority": row.priority,
            "limits": {"time_s": row.time_limit_s, "memory_bytes": row.memory_limit_bytes},
            "not_before": row.not_before,
            "needs": row.needs,
            "labels": row.labels,
            "metadata": row.metadata_,
            "force": row.force,
            "pipeline_id": row.pipeline_id,
            "step": row.step,
            "schedule_id": row.schedule_id,
            "retry_of": row.retry_of,
            "estimate": row.estimate,
            "attempt": row.attempt,
            "num_lost_attempts": row.num_lost_attempts,
            "retries": row.retries,
            "worker_id": row.worker_id,
            "cancel_requested": row.cancel_requested,
            "progress": row.progress,
            "result": row.result,
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
        }
    )
