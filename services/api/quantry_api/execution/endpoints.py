"""/api/v1/execution: one door for workers. Every write names its attempt; a stale one is refused and writes nothing."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from quantry_api.jobs.endpoints import JobId
from quantry_api.state import State
from quantry_core.execution import CheckpointReport, EventsRequest, FinishRequest, HeartbeatReply, HeartbeatRequest, Lease, NextRequest
from quantry_core.jobs import Job, JobStatus
from quantry_core.worker_hosts import HostKey
from quantry_core.workers import WorkerHello, WorkerId
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_store import transactions
from quantry_telemetry.traces import is_tracing

# A worker serves every project, so what its key must have is the role; only its own record asks whose it is.
router = APIRouter(prefix="/api/v1/execution", tags=["execution"])


@router.put("/workers/{worker_id}", status_code=204)
async def register_worker(worker_id: Annotated[WorkerId, Path()], hello: WorkerHello, caller: Caller, db: Db) -> None:
    """Says that a worker is there, and what it can do."""
    async with db.begin(caller) as uow:
        await transactions.save_worker(uow, worker_id, hello, project_id=caller.project_id, key_id=caller.key_id)


@router.post("/key/rotate", responses=problem_responses(409))
async def rotate_host_key(caller: Caller, db: Db) -> HostKey:
    """Gives the host that asks a new secret for its key, shown this once; the old one works for some minutes more."""
    async with db.begin(caller) as uow:
        host, secret = await uow.worker_hosts.rotate(caller)
    return HostKey(host=host, secret=secret)


@router.post(
    "/next",
    response_model=Lease,
    responses={204: {"description": "There is no work in that queue.", "model": None}},
)
async def claim_job(request: NextRequest, caller: Caller, db: Db, state: State) -> Lease | Response:
    """Claims the next job of a queue for a new attempt; 204 when there is none."""
    settings = state.settings
    async with db.begin(caller) as uow:
        lease = await transactions.claim_next(uow, request, lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s)
        if lease is not None and is_tracing():
            lease = lease.model_copy(update={"traceparent": await uow.jobs.traceparent(lease.job.id)})
    return Response(status_code=204) if lease is None else lease


@router.post("/jobs/{job_id}/heartbeat", responses=problem_responses(404, 409))
async def renew_lease(job_id: JobId, request: HeartbeatRequest, db: Db, state: State) -> HeartbeatReply:
    """Renews an attempt's lease and tells whether somebody wants the job cancelled."""
    async with db.begin() as uow:
        return await transactions.renew_lease(uow, job_id, request, state.settings.lease_s)


@router.post("/jobs/{job_id}/events", status_code=204, responses=problem_responses(404, 409, 413))
async def append_events(job_id: JobId, request: EventsRequest, db: Db) -> None:
    """Appends to a job's event stream; what was stored already is not stored again."""
    async with db.begin() as uow:
        await transactions.append_events(uow, job_id, request)


@router.post("/jobs/{job_id}/checkpoints", status_code=204, responses=problem_responses(404, 409, 413))
async def report_checkpoint(job_id: JobId, report: CheckpointReport, caller: Caller, db: Db) -> None:
    """Records where a training attempt got to, its files being sealed. May be repeated."""
    async with db.begin(caller) as uow:
        await transactions.record_checkpoint(uow, job_id, report)


@router.post("/jobs/{job_id}/finish", responses=problem_responses(404, 409, 413))
async def finish_attempt(job_id: JobId, request: FinishRequest, caller: Caller, db: Db, state: State) -> Job:
    """Ends an attempt, with the version and the evidence it made, in one transaction."""
    async with db.begin(caller) as uow:
        job = await transactions.finish_attempt(uow, job_id, request)
    state.nudge()
    if job.status is JobStatus.QUEUED and job.queue is not None:
        # Handed back or lost: whoever held it may be about to stop, so the others are told at once and not by the next sweep.
        state.waker.soon(job.queue)
    return job
