"""Stopping and starting a deployment: a flag that the controller follows."""

from __future__ import annotations

from quantry_core.keys import Identity
from quantry_core.rollouts import Deployment, PeriodCause, RolloutReason
from quantry_store.repositories.periods import PeriodDraft
from quantry_store.transactions.serving import note_change
from quantry_store.unit_of_work import UnitOfWork


async def stop_deployment(uow: UnitOfWork, identity: Identity, name: str) -> Deployment:
    """Returns the deployment, asked to serve nothing: its routes empty at once, the controller ends replicas and aborts a
    rollout. One that is stopped is returned as it is. Raises UnknownDeployment."""
    # The watch is over with it: the release before is not kept warm. A rollout's row comes before its deployment's.
    await uow.rollouts.end_watch_of((await uow.deployments.get(identity.project_id, name)).id)
    deployment = await uow.deployments.lock(identity.project_id, name)
    if deployment.is_stopped:
        return deployment
    await uow.deployments.set_stopped(deployment, is_stopped=True)
    return await _changed(uow, identity, deployment, "deployment.stop", PeriodCause.STOPPED)


async def resume_deployment(uow: UnitOfWork, identity: Identity, name: str) -> Deployment:
    """Returns the deployment, asked to serve its current release again; one that is not stopped is returned as it is.

    Raises UnknownDeployment.
    """
    deployment = await uow.deployments.lock(identity.project_id, name)
    if not deployment.is_stopped:
        return deployment
    await uow.deployments.set_stopped(deployment, is_stopped=False)
    return await _changed(uow, identity, deployment, "deployment.start", PeriodCause.STARTED)


async def _changed(uow: UnitOfWork, identity: Identity, deployment: Deployment, action: str, cause: PeriodCause) -> Deployment:
    await note_change(uow, deployment.id, PeriodDraft(cause, RolloutReason.REQUESTED, key_id=identity.key_id))
    await uow.audit.record(identity, action, "deployment", deployment.id, {"name": deployment.name})
    uow.routes.bump()
    return await uow.deployments.get(identity.project_id, deployment.name)
