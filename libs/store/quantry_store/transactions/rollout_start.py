"""The beginning of a rollout: release and rollout rows of a deploy job that may begin."""

from __future__ import annotations

from quantry_core.errors import Conflict, RolloutInProgress
from quantry_core.jobs import DeploySpec, Job
from quantry_core.rollouts import Deployment
from quantry_store.transactions.adapters import check_rollout
from quantry_store.unit_of_work import UnitOfWork


async def open_deployment(uow: UnitOfWork, project_id: str, spec: DeploySpec) -> Deployment:
    """Returns the deployment that a job wants to roll out to, made if missing and locked.

    Raises Conflict if it is stopped, RolloutInProgress if another rollout is not over.
    """
    deployment = await uow.deployments.lock_or_create(project_id, spec.deployment)
    if deployment.is_stopped:
        raise Conflict(f"deployment {deployment.name!r} is stopped; start it before you deploy to it")
    active = deployment.active_rollout
    if active is not None:
        raise RolloutInProgress(
            f"deployment {deployment.name!r} has a {active.state} rollout, that of job {active.job_id}; wait for it or cancel that job"
        )
    return deployment


async def plan_rollout(uow: UnitOfWork, job: Job, spec: DeploySpec, deployment: Deployment) -> None:
    """Gives a deploy job the next release of an open deployment and a pending rollout, which the controller will find.

    Raises Conflict or NotServable where the deployment's adapters could not go with it.
    """
    (subject,) = job.inputs
    version = await uow.versions.get(job.project_id, subject.version_id or "")
    await check_rollout(uow, deployment, version, spec.engine)
    release = await uow.deployments.add_release(deployment, version, num_replicas=spec.replicas, engine=spec.engine)
    await uow.rollouts.add(job, deployment, release, ready_timeout_s=spec.ready_timeout_s)
