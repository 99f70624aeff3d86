"""The beginning of a rollout: release and rollout rows of a deploy job that may begin."""

from __future__ import annotations

from quantry_core.errors import Conflict, RolloutInProgress
from quantry_core.jobs import DeploySpec, Job
from quantry_core.rollouts import Deployment, RolloutCause
from quantry_store.repositories.rollouts import RolloutDraft
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
        of_job = "" if active.job_id is None else f" of job {active.job_id}"
        raise RolloutInProgress(
            f"deployment {deployment.name!r} has a {active.state} rollout, {active.id}{of_job}; wait for it, promote it or abort it"
        )
    return deployment


async def plan_rollout(uow: UnitOfWork, job: Job, spec: DeploySpec, deployment: Deployment) -> None:
    """Gives a deploy job the next release of an open deployment and a pending rollout, which the controller will find.

    Raises Conflict or NotServable where the deployment's adapters could not go with it.
    """
    (subject,) = job.inputs
    version = await uow.versions.get(job.project_id, subject.version_id or "")
    await check_rollout(uow, deployment, version, spec.engine)
    release = await uow.releases.add(deployment, version, spec)
    draft = RolloutDraft(
        RolloutCause.DEPLOY,
        job_id=job.id,
        strategy=spec.strategy,
        ready_timeout_s=spec.ready_timeout_s,
        watch_s=spec.watch_s,
        note=spec.note,
        key_id=await uow.jobs.created_by(job.id),
    )
    await uow.rollouts.add(deployment, release, draft)
    # The controller goes by the revision too: it looks at once.
    uow.routes.bump()
