"""What a finished fine-tune leads to whose adapter is for a deployment."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from quantry_core.errors import QuantryError, UnknownDeployment
from quantry_core.jobs import FinetuneSpec, Job
from quantry_core.keys import Identity, Role
from quantry_core.training import served_name
from quantry_core.versions import Version
from quantry_store.transactions.adapters import attach_adapter
from quantry_store.transactions.recalibrate import PLATFORM_KEY
from quantry_store.unit_of_work import UnitOfWork


async def lock_for_adapter(uow: UnitOfWork, job: Job) -> None:
    """Claims the name and locks the deployment that a job's adapter is for, if there is one: both are taken before any model's row."""
    spec = job.spec
    if not isinstance(spec, FinetuneSpec) or spec.deployment is None:
        return
    await uow.attached.claim_name(job.project_id, served_name(spec.deployment, spec.suffix, job.id))
    with suppress(UnknownDeployment):
        await uow.deployments.lock(job.project_id, spec.deployment)


async def attach_finished(uow: UnitOfWork, job: Job, version: Version) -> dict[str, Any]:
    """Returns what a finished fine-tune led to: the name that its adapter has at its deployment, or why it was refused there.

    Nothing for other jobs, and for a fine-tune without a deployment. A refusal undoes nothing else. ``lock_for_adapter`` came first.
    """
    spec = job.spec
    if not isinstance(spec, FinetuneSpec) or spec.deployment is None:
        return {}
    who = Identity(key_id=await uow.jobs.created_by(job.id) or PLATFORM_KEY, project_id=job.project_id, role=Role.OPERATOR)
    try:
        async with uow.savepoint():
            attached = await attach_adapter(
                uow, who, spec.deployment, served_name(spec.deployment, spec.suffix, job.id), version.id, job_id=job.id
            )
    except QuantryError as error:
        return {"adapter_refused": error.detail}
    return {"adapter_name": attached.name}
