"""/api/v1/deployments: what each serves and served, the way back, its adapters, and what is kept of its prompts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from quantry_api.deployments import service
from quantry_api.state import State
from quantry_core.captures import CaptureSettings, CaptureStatus
from quantry_core.deployment_diffs import DeploymentDiff
from quantry_core.names import Name
from quantry_core.pages import Page
from quantry_core.rollouts import AdapterAttachment, AttachedAdapter, Deployment, Release, RollbackOrder, Rollout, ServingPeriod
from quantry_http.auth import Caller, Db
from quantry_http.moments import Moment
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_store import transactions
from quantry_store.repositories.attached_adapters import attached_adapter

router = APIRouter(prefix="/api/v1/deployments", tags=["deployments"])

PREVIOUS = RollbackOrder()


@router.get("")
async def list_deployments(caller: Caller, db: Db, page: PageParams) -> Page[Deployment]:
    """Lists deployments, newest first. A deploy job makes one."""
    async with db.begin() as uow:
        return await uow.deployments.list(caller.project_id, after=page.after, limit=page.limit)


@router.get("/{name}", responses=problem_responses(404))
async def show_deployment(name: Name, caller: Caller, db: Db) -> Deployment:
    """Shows a deployment with its release, its active rollout and its replicas."""
    async with db.begin() as uow:
        return await uow.deployments.get(caller.project_id, name)


@router.get("/{name}/rollouts", responses=problem_responses(404))
async def list_rollouts(name: Name, caller: Caller, db: Db, page: PageParams) -> Page[Rollout]:
    """Lists a deployment's rollouts, newest first."""
    async with db.begin() as uow:
        deployment = await uow.deployments.get(caller.project_id, name)
        return await uow.rollouts.list(caller.project_id, deployment, after=page.after, limit=page.limit)


@router.get("/{name}/releases", responses=problem_responses(404))
async def list_releases(name: Name, caller: Caller, db: Db, page: PageParams) -> Page[Release]:
    """Lists a deployment's releases, newest first; one that was rolled out but never promoted is among them."""
    async with db.begin() as uow:
        deployment = await uow.deployments.get(caller.project_id, name)
        return await uow.releases.list(deployment, after=page.after, limit=page.limit)


@router.post("/{name}/rollback", responses=problem_responses(404, 409))
async def roll_back_deployment(name: Name, caller: Caller, db: Db, order: RollbackOrder = PREVIOUS) -> Deployment:
    """Has an earlier release serve again: at once where a replica of it is ready, else as soon as one is. An active rollout is ended;
    without a release's number that is all, if there is one."""
    return await service.roll_back(db, caller, name, order)


@router.get("/{name}/history", responses=problem_responses(404))
async def show_history(name: Name, caller: Caller, db: Db, page: PageParams) -> Page[ServingPeriod]:
    """Lists what served under a deployment's name, newest first: a period for each change, with its cause, who and why."""
    async with db.begin() as uow:
        deployment = await uow.deployments.get(caller.project_id, name)
        return await uow.periods.list(deployment, after=page.after, limit=page.limit)


@router.get("/{name}/at", responses=problem_responses(404))
async def show_served_at(
    name: Name, caller: Caller, db: Db, time: Annotated[Moment, Query(description="With its zone: 2026-11-23T12:00:00Z.")]
) -> ServingPeriod:
    """Shows what served under a deployment's name at a moment."""
    return await service.served_at(db, caller, name, time)


@router.get("/{name}/diff", responses=problem_responses(404))
async def show_diff(
    name: Name,
    caller: Caller,
    db: Db,
    left: Annotated[str, Query(alias="from", max_length=64, description="A release's number, or a time with its zone.")],
    right: Annotated[str, Query(alias="to", max_length=64, description="The same.")],
) -> DeploymentDiff:
    """Shows what tells two releases or two moments apart: how they are served, recipe, evidence."""
    return await service.diff(db, caller, name, left, right)


@router.get("/{name}/capture", responses=problem_responses(404))
async def show_capture(name: Name, caller: Caller, db: Db) -> CaptureStatus:
    """Shows which prompts a deployment keeps, and how many it has. The prompts themselves are shown to nobody."""
    async with db.begin() as uow:
        return await uow.captures.status(await uow.deployments.get(caller.project_id, name))


@router.put("/{name}/capture", responses=problem_responses(404, 409))
async def start_capture(name: Name, settings: CaptureSettings, caller: Caller, db: Db, state: State) -> CaptureStatus:
    """Keeps a share of a deployment's prompts from now on, encrypted; refused where there is no key for that."""
    return await service.capture(db, state, caller, name, settings)


@router.delete("/{name}/capture", status_code=204, responses=problem_responses(404))
async def end_capture(name: Name, caller: Caller, db: Db) -> None:
    """Keeps no further prompts, and deletes those that are kept."""
    async with db.begin() as uow:
        await transactions.end_capture(uow, caller, name)


@router.get("/{name}/adapters", responses=problem_responses(404))
async def list_adapters(name: Name, caller: Caller, db: Db) -> Page[AttachedAdapter]:
    """Lists the adapters that a deployment serves beside its base, oldest first: all of them, there is one page."""
    async with db.begin() as uow:
        deployment = await uow.deployments.get(caller.project_id, name)
    return Page(data=deployment.adapters)


@router.get("/{name}/adapters/{adapter}", responses=problem_responses(404))
async def show_adapter(name: Name, adapter: Name, caller: Caller, db: Db) -> AttachedAdapter:
    """Shows one attached adapter. Which replicas have it loaded is in the deployment: their ``adapter_ids`` name it."""
    async with db.begin() as uow:
        return attached_adapter(await uow.deployments.get(caller.project_id, name), adapter)


@router.put("/{name}/adapters/{adapter}", responses=problem_responses(404, 409, 422))
async def attach_adapter(name: Name, adapter: Name, attachment: AdapterAttachment, caller: Caller, db: Db) -> AttachedAdapter:
    """Serves an adapter version under this name, while the engines run; again changes nothing, another version replaces it."""
    async with db.begin() as uow:
        return await transactions.attach_adapter(uow, caller, name, adapter, attachment.version)


@router.delete("/{name}/adapters/{adapter}", status_code=204, responses=problem_responses(404))
async def detach_adapter(name: Name, adapter: Name, caller: Caller, db: Db) -> None:
    """Serves the adapter no more: its name is unknown at once, and engines unload it when what is under way has drained."""
    async with db.begin() as uow:
        await transactions.detach_adapter(uow, caller, name, adapter)


@router.post("/{name}/stop", responses=problem_responses(404))
async def stop_deployment(name: Name, caller: Caller, db: Db) -> Deployment:
    """Stops serving: replicas end, an active rollout is aborted. The deployment and its releases stay."""
    async with db.begin() as uow:
        return await transactions.stop_deployment(uow, caller, name)


@router.post("/{name}/start", responses=problem_responses(404))
async def start_deployment(name: Name, caller: Caller, db: Db) -> Deployment:
    """Serves the current release again."""
    async with db.begin() as uow:
        return await transactions.resume_deployment(uow, caller, name)
