"""/api/v1/deployments, and the adapters that each serves."""

from __future__ import annotations

from fastapi import APIRouter

from quantry_core.names import Name
from quantry_core.pages import Page
from quantry_core.rollouts import AdapterAttachment, AttachedAdapter, Deployment, Rollout
from quantry_http.auth import Db, Operator, Viewer
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_store import transactions
from quantry_store.repositories.attached_adapters import attached_adapter

router = APIRouter(prefix="/api/v1/deployments", tags=["deployments"])


@router.get("")
async def list_deployments(caller: Viewer, db: Db, page: PageParams) -> Page[Deployment]:
    """Lists deployments, newest first. A deploy job makes one."""
    async with db.begin() as uow:
        return await uow.deployments.list(caller.project_id, after=page.after, limit=page.limit)


@router.get("/{name}", responses=problem_responses(404))
async def show_deployment(name: Name, caller: Viewer, db: Db) -> Deployment:
    """Shows a deployment with its release, its active rollout and its replicas."""
    async with db.begin() as uow:
        return await uow.deployments.get(caller.project_id, name)


@router.get("/{name}/rollouts", responses=problem_responses(404))
async def list_rollouts(name: Name, caller: Viewer, db: Db, page: PageParams) -> Page[Rollout]:
    """Lists a deployment's rollouts, newest first."""
    async with db.begin() as uow:
        deployment = await uow.deployments.get(caller.project_id, name)
        return await uow.rollouts.list(caller.project_id, deployment, after=page.after, limit=page.limit)


@router.get("/{name}/adapters", responses=problem_responses(404))
async def list_adapters(name: Name, caller: Viewer, db: Db) -> Page[AttachedAdapter]:
    """Lists the adapters that a deployment serves beside its base, oldest first: all of them, there is one page."""
    async with db.begin() as uow:
        deployment = await uow.deployments.get(caller.project_id, name)
    return Page(data=deployment.adapters)


@router.get("/{name}/adapters/{adapter}", responses=problem_responses(404))
async def show_adapter(name: Name, adapter: Name, caller: Viewer, db: Db) -> AttachedAdapter:
    """Shows one attached adapter. Which replicas have it loaded is in the deployment: their ``adapter_ids`` name it."""
    async with db.begin() as uow:
        return attached_adapter(await uow.deployments.get(caller.project_id, name), adapter)


@router.put("/{name}/adapters/{adapter}", responses=problem_responses(404, 409, 422))
async def attach_adapter(name: Name, adapter: Name, attachment: AdapterAttachment, caller: Operator, db: Db) -> AttachedAdapter:
    """Serves an adapter version under this name, while the engines run; again changes nothing, another version replaces it."""
    async with db.begin() as uow:
        return await transactions.attach_adapter(uow, caller, name, adapter, attachment.version)


@router.delete("/{name}/adapters/{adapter}", status_code=204, responses=problem_responses(404))
async def detach_adapter(name: Name, adapter: Name, caller: Operator, db: Db) -> None:
    """Serves the adapter no more: its name is unknown at once, and engines unload it when what is under way has drained."""
    async with db.begin() as uow:
        await transactions.detach_adapter(uow, caller, name, adapter)


@router.post("/{name}/stop", responses=problem_responses(404))
async def stop_deployment(name: Name, caller: Operator, db: Db) -> Deployment:
    """Stops serving: replicas end, an active rollout is aborted. The deployment and its releases stay."""
    async with db.begin() as uow:
        return await transactions.stop_deployment(uow, caller, name)


@router.post("/{name}/start", responses=problem_responses(404))
async def start_deployment(name: Name, caller: Operator, db: Db) -> Deployment:
    """Serves the current release again."""
    async with db.begin() as uow:
        return await transactions.resume_deployment(uow, caller, name)
