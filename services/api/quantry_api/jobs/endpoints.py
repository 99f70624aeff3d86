"""/api/v1/jobs"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Query
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from quantry_api.jobs.service import check_spec, log_lines
from quantry_api.jobs.stream import JobEvents
from quantry_api.state import State
from quantry_core.errors import UnknownJob
from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs import Job, JobStatus, JobSubmission, JobType
from quantry_core.pages import Page
from quantry_http.auth import Db, Operator, RecheckKey, Viewer
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_store import transactions

MAX_SEQ = 2**31 - 1

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])


def job_id_in_path(job_id: str) -> str:
    """Returns the id in the address; raises UnknownJob if it has not even the form of one."""
    if not is_id(job_id, IdPrefix.JOB):
        raise UnknownJob(f"there is no job {job_id!r}")
    return job_id


JobId = Annotated[str, Depends(job_id_in_path)]
Seq = Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="Only events with a greater seq.")]


@router.post("", status_code=201, responses=problem_responses(404, 409, 413))
async def submit_job(submission: JobSubmission, caller: Operator, db: Db, state: State, background: BackgroundTasks) -> Job:
    """Submits a job. What its spec names is resolved now, so it cannot change under the job."""
    await check_spec(submission.spec, state.settings.import_roots)
    async with db.begin() as uow:
        job = await transactions.submit_job(uow, caller, submission)
    if job.queue is not None:
        # After the answer: the job is safe in the database, and a broker that is away must not hold up who submitted it.
        background.add_task(state.waker.wake, job.queue)
    return job


@router.get("")
async def list_jobs(
    caller: Viewer,
    db: Db,
    page: PageParams,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
    type: Annotated[JobType | None, Query(description="Only jobs of this type.")] = None,
) -> Page[Job]:
    """Lists jobs, newest first."""
    async with db.begin() as uow:
        return await uow.jobs.list(caller.project_id, after=page.after, limit=page.limit, status=status, type=type)


@router.get("/{job_id}", responses=problem_responses(404))
async def show_job(job_id: JobId, caller: Viewer, db: Db) -> Job:
    """Shows one job."""
    async with db.begin() as uow:
        return await uow.jobs.get(caller.project_id, job_id)


@router.post("/{job_id}/cancel", responses=problem_responses(404))
async def cancel_job(job_id: JobId, caller: Operator, db: Db) -> Job:
    """Cancels a job: at once where it waits, by a flag that its worker sees where it runs. A job that ended stays as it is."""
    async with db.begin() as uow:
        return await transactions.cancel_job(uow, caller, job_id)


async def _visible_job(job_id: JobId, caller: Viewer, db: Db) -> Job:
    async with db.begin() as uow:
        return await uow.jobs.get(caller.project_id, job_id)


VisibleJob = Annotated[Job, Depends(_visible_job)]


@router.get("/{job_id}/events", response_class=EventSourceResponse, responses=problem_responses(404))
async def watch_job(
    job: VisibleJob,
    db: Db,
    recheck_key: RecheckKey,
    after: Seq = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_SEQ, description="Where a broken stream is taken up again.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Streams a job's events, those of the past first; ends after the event of its final state.

    Each has its seq as id, its kind as event and a JobEvent as data.
    """
    seq = last_event_id if last_event_id is not None else after or 0
    async for event in JobEvents(db, job.project_id, job.id, recheck_key=recheck_key).after(seq):
        yield ServerSentEvent(raw_data=event.model_dump_json(), event=event.kind, id=str(event.seq))


@router.get("/{job_id}/log", response_class=PlainTextResponse, responses=problem_responses(404))
async def show_log(
    job: VisibleJob,
    db: Db,
    attempt: Annotated[int | None, Query(ge=1, le=MAX_SEQ, description="Only this attempt's lines.")] = None,
) -> StreamingResponse:
    """Shows what a job's child processes wrote, as plain text."""
    async with db.begin() as uow:
        events = await uow.events.logs(job.project_id, job.id, attempt)
    return StreamingResponse(log_lines(events), media_type="text/plain; charset=utf-8")
