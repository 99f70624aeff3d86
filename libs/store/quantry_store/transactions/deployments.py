"""Stopping and starting a deployment: a flag that the controller follows."""

from __future__ import annotations

from quantry_core.keys import Identity
from quantry_core.rollouts import Deployment
from quantry_store.unit_of_work import UnitOfWork


async def stop_deployment(uow: UnitOfWork, identity: Identity, name: str) -> Deployment:
    """Returns the deployment, asked to serve nothing: its routes empty at once, the controller ends replicas and aborts a
    rollout. One that is stopped is returned as it is. Raises UnknownDeployment."""
    deployment = await uow.deployments.lock(identity.project_id, name)
    if deployment.is_stopped:
        return deployment
    await uow.deployments.set_stopped(deployment, is_stopped=True)
    return await _changed(uow, identity, deployment, "deployment.stop")


async def resume_deployment(uow: UnitOfWork, identity: Identity, name: str) -> Deployment:
    """Returns the deployment, asked to serve its current release again; one that is not stopped is returned as it is.

    Raises UnknownDeployment.
    """
    deployment = await uow.deployments.lock(identity.project_id, name)
    if not deployment.is_stopped:
        return deployment
    await uow.deployments.set_stopped(deployment, is_stopped=False)
    return await _changed(uow, identity, deployment, "deployment.start")


async def _changed(uow: UnitOfWork, identity: Identity, deployment: Deployment, action: str) -> Deployment:
    await uow.audit.record(identity, action, "deployment", deployment.id, {"name": deployment.name})
    uow.routes.bump()
    return await uow.deployments.get(identity.project_id, deployment.name)
