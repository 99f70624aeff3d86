"""/v1/fine_tuning/jobs"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from quantry_api.fine_tuning import service
from quantry_api.fine_tuning.schemas import (
    MAX_PAGE,
    FineTuningCheckpoints,
    FineTuningEvents,
    FineTuningJob,
    FineTuningJobRequest,
    FineTuningJobs,
)
from quantry_api.idempotency import RequestKey
from quantry_api.jobs import service as jobs
from quantry_api.jobs.endpoints import JobId
from quantry_api.state import State
from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.jobs import Job
from quantry_core.openai_errors import OPENAI_PREFIX
from quantry_core.pages import DEFAULT_LIMIT
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_store import transactions

PREFIX = f"{OPENAI_PREFIX}fine_tuning/jobs"
DEFAULT_CHECKPOINTS = 10
_JOB_ID_PATTERN = r"^job_[0-9a-f]{32}$"
_PAGE_PARAMETERS = frozenset({"after", "limit"})


async def only_page_parameters(request: Request) -> None:
    """Raises InvalidInput naming a query parameter that would change nothing."""
    unknown = sorted(set(request.query_params) - _PAGE_PARAMETERS)
    if unknown:
        sentence = f"{unknown[0][:64]!r} is not known here; lists take {' and '.join(sorted(_PAGE_PARAMETERS))}"
        raise InvalidInput(sentence, errors=[FieldProblem(field=unknown[0][:64], message=sentence)])


router = APIRouter(prefix=PREFIX, tags=["openai fine-tuning"], dependencies=[Depends(only_page_parameters)])

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Items of one page, at most.")]
Cursor = Annotated[str | None, Query(max_length=64, description="The last_id of the page before.")]


async def _fine_tune(job_id: JobId, caller: Caller, db: Db) -> Job:
    async with db.begin() as uow:
        job = await uow.jobs.get(caller.project_id, job_id)
    service.trained_spec(job)
    return job


FineTune = Annotated[Job, Depends(_fine_tune)]
"""The fine-tune job in the address."""


@router.post("", responses=problem_responses(404, 409, 413))
async def create_fine_tuning_job(*, request: FineTuningJobRequest, caller: Caller, db: Db, state: State, key: RequestKey) -> FineTuningJob:
    """Submits a fine-tune job with an adapter. A deployment as the model has the adapter attached when the job succeeds."""
    async with db.begin() as uow:
        submission = await service.submission_of(uow, caller.project_id, request)
    with service.fields_of_the_request():
        job = await jobs.submit(db, state, caller, submission, key)
    state.announce(job)
    async with db.begin() as uow:
        return await service.show(uow, job)


@router.get("")
async def list_fine_tuning_jobs(
    *,
    caller: Caller,
    db: Db,
    after: Annotated[str | None, Query(pattern=_JOB_ID_PATTERN, description="The last_id of the page before.")] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> FineTuningJobs:
    """Lists fine-tune jobs, newest first, those submitted at /api/v1 too."""
    async with db.begin() as uow:
        return await service.show_page(uow, caller.project_id, after=after, limit=limit)


@router.get("/{job_id}", responses=problem_responses(404))
async def show_fine_tuning_job(job: FineTune, db: Db) -> FineTuningJob:
    """Shows one fine-tune job."""
    async with db.begin() as uow:
        return await service.show(uow, job)


@router.post("/{job_id}/cancel", responses=problem_responses(404))
async def cancel_fine_tuning_job(job_id: JobId, caller: Caller, db: Db, state: State) -> FineTuningJob:
    """Cancels a fine-tune job: at once where it waits, within seconds where it runs. One that ended stays as it is."""
    async with db.begin() as uow:
        service.trained_spec(await uow.jobs.get(caller.project_id, job_id))
        cancelled = await service.show(uow, await transactions.cancel_job(uow, caller, job_id))
    state.nudge()
    return cancelled


@router.get("/{job_id}/events", responses=problem_responses(404))
async def list_fine_tuning_events(job: FineTune, db: Db, after: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> FineTuningEvents:
    """Lists what happened to a job, newest first: its moves, notes, and the numbers of each training step."""
    async with db.begin() as uow:
        return await service.show_events(uow, job, after=after, limit=limit)


@router.get("/{job_id}/checkpoints", responses=problem_responses(404))
async def list_fine_tuning_checkpoints(
    job: FineTune, db: Db, after: Cursor = None, limit: Limit = DEFAULT_CHECKPOINTS
) -> FineTuningCheckpoints:
    """Lists where a job got to, the furthest first."""
    async with db.begin() as uow:
        return await service.show_checkpoints(uow, job, after=after, limit=limit)
