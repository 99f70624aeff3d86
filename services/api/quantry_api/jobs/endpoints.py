"""/api/v1/jobs"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from quantry_api.at_once import AtOnce
from quantry_api.idempotency import RequestKey
from quantry_api.jobs import service
from quantry_api.jobs.stream import JobEvents
from quantry_api.state import State
from quantry_core.errors import FieldProblem, InvalidInput, UnknownJob
from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs import (
    MAX_CURVE_POINTS,
    EventKind,
    Job,
    JobCheckpoint,
    JobCurve,
    JobStatus,
    JobSubmission,
    JobType,
    Queue,
    Requirement,
    join_attempts,
    parse_selector,
    thin,
)
from quantry_core.pages import Page
from quantry_http.auth import Caller, Db, RecheckKey
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_store import transactions

MAX_SEQ = 2**31 - 1
MAX_TAIL_LINES = 100_000
MAX_SELECTOR_CHARS = 2048

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])


async def job_id_in_path(job_id: str) -> str:
    """Returns the id in the address; raises UnknownJob if it has not even the form of one."""
    if not is_id(job_id, IdPrefix.JOB):
        raise UnknownJob(f"there is no job {job_id!r}")
    return job_id


async def selector_in_query(
    labels: Annotated[
        str | None, Query(max_length=MAX_SELECTOR_CHARS, description="Conditions that must all hold: key=value, key!=value, key, !key.")
    ] = None,
) -> list[Requirement]:
    """Returns the conditions of a label selector; raises InvalidInput naming the bad part."""
    return [] if labels is None else parse_selector(labels)


JobId = Annotated[str, Depends(job_id_in_path)]
LabelSelector = Annotated[list[Requirement], Depends(selector_in_query)]
Seq = Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="Only events with a greater seq.")]


@router.post("", status_code=201, responses=problem_responses(404, 409, 413))
async def submit_job(*, submission: JobSubmission, caller: Caller, db: Db, state: State, key: RequestKey) -> Job:
    """Submits a job. What its spec names is resolved now, so it cannot change under the job."""
    job = await service.submit(db, state, caller, submission, key)
    state.announce(job)
    return job


@router.get("")
async def list_jobs(
    *,
    caller: Caller,
    db: Db,
    page: PageParams,
    labels: LabelSelector,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
    type: Annotated[JobType | None, Query(description="Only jobs of this type.")] = None,
    pipeline_id: Annotated[str | None, Query(max_length=64, description="Only jobs of this pipeline, those tried again too.")] = None,
    schedule_id: Annotated[str | None, Query(max_length=64, description="Only jobs that this schedule submitted.")] = None,
    queue: Annotated[Queue | None, Query(description="Only jobs of this queue.")] = None,
    uses: Annotated[
        str | None, Query(pattern=r"^(ver|dat)_[0-9a-f]{32}$", description="Only jobs that were given this version or dataset.")
    ] = None,
) -> Page[Job]:
    """Lists jobs, newest first."""
    async with db.begin() as uow:
        return await uow.jobs.list(
            caller.project_id,
            after=page.after,
            limit=page.limit,
            status=status,
            type=type,
            labels=labels,
            pipeline_id=pipeline_id,
            schedule_id=schedule_id,
            queue=queue,
            uses=uses,
        )


@router.get("/{job_id}", responses=problem_responses(404))
async def show_job(job_id: JobId, caller: Caller, db: Db) -> Job:
    """Shows one job."""
    async with db.begin() as uow:
        return await uow.jobs.get(caller.project_id, job_id)


@router.post("/{job_id}/cancel", responses=problem_responses(404))
async def cancel_job(job_id: JobId, caller: Caller, db: Db, state: State) -> Job:
    """Cancels a job: at once where it waits, by a flag that its worker sees where it runs. A job that ended stays as it is."""
    async with db.begin() as uow:
        job = await transactions.cancel_job(uow, caller, job_id)
    state.nudge()
    return job


@router.post("/{job_id}/retry", status_code=201, responses=problem_responses(404, 409))
async def retry_job(*, job_id: JobId, caller: Caller, db: Db, state: State, key: RequestKey) -> Job:
    """Submits a job again that failed or was cancelled: a new job with the same spec, options and inputs."""
    job = await service.retry(db, caller, job_id, key)
    state.announce(job)
    return job


async def _visible_job(job_id: JobId, caller: Caller, db: Db) -> Job:
    async with db.begin() as uow:
        return await uow.jobs.get(caller.project_id, job_id)


VisibleJob = Annotated[Job, Depends(_visible_job)]


async def _start_of_stream(
    job: VisibleJob,
    db: Db,
    after: Seq = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_SEQ, description="Where a broken stream is taken up again.")] = None,
) -> int:
    """Returns the seq after which a stream begins; raises InvalidInput for one that the job has not reached."""
    name, seq = ("last-event-id", last_event_id) if last_event_id is not None else ("after", after or 0)
    async with db.begin() as uow:
        last_seq = await uow.events.last_seq(job.project_id, job.id)
    if seq > last_seq:
        sentence = f"{seq} lies ahead of job {job.id}, whose last event is {last_seq}"
        raise InvalidInput(sentence, errors=[FieldProblem(field=name, message=sentence)])
    return seq


async def _an_open_stream(caller: Caller, request: Request) -> AsyncIterator[None]:
    """Counts a stream for as long as it is open; raises TooManyRequests where the key has too many, or all together."""
    streams: AtOnce = request.app.state.event_streams
    with streams.one_of(caller.key_id):
        yield


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=problem_responses(404),
    dependencies=[Depends(_an_open_stream)],
)
async def watch_job(
    job: VisibleJob,
    db: Db,
    recheck_key: RecheckKey,
    seq: Annotated[int, Depends(_start_of_stream)],
    kind: Annotated[list[EventKind] | None, Query(description="Only events of these kinds; all where none is given.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Streams a job's events, those of the past first; ends after the event of its final state.

    Each has its seq as id, its kind as event and a JobEvent as data.
    """
    events = JobEvents(db, job.project_id, job.id, kinds=frozenset(kind or EventKind), recheck_key=recheck_key)
    async for event in events.after(seq):
        yield ServerSentEvent(raw_data=event.model_dump_json(), event=event.kind, id=str(event.seq))


class CheckpointList(BaseModel):
    """Where a training job got to, newest first."""

    data: list[JobCheckpoint]


@router.get("/{job_id}/checkpoints", responses=problem_responses(404))
async def list_checkpoints(job: VisibleJob, db: Db) -> CheckpointList:
    """Lists a training job's checkpoints; of the newest the files are kept while the job may go on from them."""
    async with db.begin() as uow:
        return CheckpointList(data=await uow.checkpoints.list(job.project_id, job.id))


@router.get("/{job_id}/curve", responses=problem_responses(404))
async def show_curve(
    job: VisibleJob,
    db: Db,
    max_points: Annotated[int, Query(ge=2, le=MAX_CURVE_POINTS, description="Evenly chosen where there are more.")] = 1000,
) -> JobCurve:
    """Shows what a training job measured by step: loss, learning rate and so on."""
    async with db.begin() as uow:
        line = join_attempts(await uow.events.metrics(job.project_id, job.id))
    return JobCurve(job_id=job.id, num_points=len(line), data=thin(line, max_points))


@router.get("/{job_id}/log", response_class=PlainTextResponse, responses=problem_responses(404))
async def show_log(
    job: VisibleJob,
    db: Db,
    attempt: Annotated[int | None, Query(ge=1, le=MAX_SEQ, description="Only this attempt's lines.")] = None,
    tail: Annotated[int | None, Query(ge=1, le=MAX_TAIL_LINES, description="Only so many lines, the last ones.")] = None,
) -> StreamingResponse:
    """Shows what a job's child processes wrote, as plain text."""
    async with db.begin() as uow:
        events = await uow.events.logs(job.project_id, job.id, attempt, tail=tail)
    return StreamingResponse(service.log_lines(events), media_type="text/plain; charset=utf-8")
