"""/api/v1/execution: one door for workers. Every write names its attempt; a stale one is refused and writes nothing."""

from __future__ import annotations

from fastapi import APIRouter, Response

from quantry_api.jobs.endpoints import JobId
from quantry_api.state import State
from quantry_core.execution import EventsRequest, FinishRequest, HeartbeatReply, HeartbeatRequest, Lease, NextRequest
from quantry_core.jobs import Job
from quantry_http.auth import Db, WorkerCaller
from quantry_http.problems import problem_responses
from quantry_store import transactions

router = APIRouter(prefix="/api/v1/execution", tags=["execution"])


@router.post(
    "/next",
    response_model=Lease,
    responses={204: {"description": "There is no work in that queue.", "model": None}},
)
async def claim_job(request: NextRequest, caller: WorkerCaller, db: Db, state: State) -> Lease | Response:
    """Claims the next job of a queue for a new attempt; 204 when there is none."""
    settings = state.settings
    async with db.begin() as uow:
        lease = await transactions.claim_next(uow, caller, request, lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s)
    return Response(status_code=204) if lease is None else lease


@router.post("/jobs/{job_id}/heartbeat", responses=problem_responses(404, 409))
async def renew_lease(job_id: JobId, request: HeartbeatRequest, caller: WorkerCaller, db: Db, state: State) -> HeartbeatReply:
    """Renews an attempt's lease and tells whether somebody wants the job cancelled."""
    async with db.begin() as uow:
        return await transactions.renew_lease(uow, job_id, request, state.settings.lease_s, worker=caller)


@router.post("/jobs/{job_id}/events", status_code=204, responses=problem_responses(404, 409, 413))
async def append_events(job_id: JobId, request: EventsRequest, caller: WorkerCaller, db: Db) -> None:
    """Appends to a job's event stream."""
    async with db.begin() as uow:
        await transactions.append_events(uow, job_id, request, worker=caller)


@router.post("/jobs/{job_id}/finish", responses=problem_responses(404, 409, 413))
async def finish_attempt(job_id: JobId, request: FinishRequest, caller: WorkerCaller, db: Db) -> Job:
    """Ends an attempt, with the version and the evidence it made, in one transaction."""
    async with db.begin() as uow:
        return await transactions.finish_attempt(uow, job_id, request, worker=caller)
