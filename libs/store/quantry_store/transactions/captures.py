"""Opt-in capture of prompts: switched on and off for a deployment."""

from __future__ import annotations

from quantry_core.captures import CaptureSettings, CaptureStatus
from quantry_core.keys import Identity
from quantry_store.unit_of_work import UnitOfWork


async def set_capture(uow: UnitOfWork, identity: Identity, name: str, settings: CaptureSettings) -> CaptureStatus:
    """Returns what a deployment keeps, from now on as ``settings`` say; prompts that it has already are kept as long as these say.

    Raises UnknownDeployment.
    """
    deployment = await uow.deployments.lock(identity.project_id, name)
    if deployment.capture != settings:
        await uow.deployments.set_capture(deployment, settings)
        await uow.captures.keep_for(deployment, settings.retention_days)
        facts = {"name": name, **settings.model_dump(mode="json")}
        await uow.audit.record(identity, "capture.set", "deployment", deployment.id, facts)
        uow.routes.bump()
    return await uow.captures.status(deployment.model_copy(update={"capture": settings}))


async def end_capture(uow: UnitOfWork, identity: Identity, name: str) -> None:
    """Has a deployment keep no further prompts, and deletes those that it has; one without any is no error.

    Raises UnknownDeployment.
    """
    deployment = await uow.deployments.lock(identity.project_id, name)
    num_deleted = await uow.captures.delete_all(deployment)
    if deployment.capture is None and not num_deleted:
        return
    await uow.deployments.set_capture(deployment, None)
    await uow.audit.record(identity, "capture.end", "deployment", deployment.id, {"name": name, "num_deleted": num_deleted})
    uow.routes.bump()
