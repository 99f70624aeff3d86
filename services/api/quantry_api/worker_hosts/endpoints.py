"""/api/v1/worker-hosts, worker-enrolments and enrol: for admins of the platform; exchanging a one-time token is for the host itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from quantry_core.pages import Page
from quantry_core.worker_hosts import Enrolment, EnrolmentExchange, EnrolmentRequest, HostKey, NewEnrolment, WorkerHost
from quantry_http.auth import Caller, Db
from quantry_http.limits import Limits, address_of
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses

router = APIRouter(prefix="/api/v1", tags=["workers"])

HostId = Annotated[str, Path(pattern=r"^wkh_[0-9a-f]{32}$")]
EnrolmentId = Annotated[str, Path(pattern=r"^enr_[0-9a-f]{32}$")]


@router.get("/worker-hosts")
async def list_hosts(db: Db, page: PageParams) -> Page[WorkerHost]:
    """Lists the hosts that were enrolled, newest first, revoked ones included."""
    async with db.begin() as uow:
        return await uow.worker_hosts.list(after=page.after, limit=page.limit)


@router.post("/worker-enrolments", status_code=201)
async def create_enrolment(request: EnrolmentRequest, caller: Caller, db: Db) -> NewEnrolment:
    """Makes a one-time token for a host and shows it this once."""
    async with db.begin() as uow:
        enrolment, token = await uow.worker_hosts.invite(request, who=caller)
    return NewEnrolment(enrolment=enrolment, token=token)


@router.get("/worker-enrolments")
async def list_enrolments(db: Db, page: PageParams) -> Page[Enrolment]:
    """Lists one-time tokens, newest first, used and expired ones included. The tokens are not stored, so they are not shown."""
    async with db.begin() as uow:
        return await uow.worker_hosts.invitations(after=page.after, limit=page.limit)


@router.delete("/worker-enrolments/{enrolment_id}", status_code=204, responses=problem_responses(404, 409))
async def revoke_enrolment(enrolment_id: EnrolmentId, caller: Caller, db: Db) -> None:
    """Makes a one-time token worthless that no host has used yet."""
    async with db.begin() as uow:
        await uow.worker_hosts.withdraw(enrolment_id, who=caller)


@router.post("/enrol", status_code=201, responses=problem_responses(401))
async def enrol_host(exchange: EnrolmentExchange, request: Request, db: Db, limits: Limits) -> HostKey:
    """Gives a host a worker's key of its own for its one-time token, which is worthless from then on. Needs no key."""
    limits.admit_enrolment(address_of(request))
    async with db.begin() as uow:
        host, secret = await uow.worker_hosts.enrol(exchange)
    return HostKey(host=host, secret=secret)


@router.delete("/worker-hosts/{host_id}", responses=problem_responses(404))
async def revoke_host(host_id: HostId, caller: Caller, db: Db) -> WorkerHost:
    """Revokes a host's key: it is refused from now on, and what it runs goes to other workers when its leases have run out."""
    async with db.begin() as uow:
        return await uow.worker_hosts.revoke(host_id, who=caller)
