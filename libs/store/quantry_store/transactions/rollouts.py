"""What the rollout controller reads, and the steps of a rollout it persists. A rollout and its job always move together."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.jobs import REASONS, DeploySpec, Job, JobReason, JobResult, JobStatus
from quantry_core.rollouts import Deployment, Release, Replica, Rollout, RolloutState
from quantry_store.unit_of_work import UnitOfWork


class DeploymentRecord(BaseModel):
    """All that the controller decides about one deployment by."""

    model_config = ConfigDict(frozen=True)

    deployment: Deployment
    releases: dict[str, Release] = Field(description="By id: the current one, both ends of the rollout, those of replicas.")
    cancel_requested: bool = Field(description="The job of the active rollout is to be cancelled.")


async def load_deployments(uow: UnitOfWork) -> list[DeploymentRecord]:
    """Returns what there is to reconcile, of every project, as it was at one moment. Must be the first in its transaction.

    Nothing is locked: each step that follows locks what it moves, and is refused if that moved meanwhile.
    """
    await uow.read_one_moment()
    records = []
    for deployment in await uow.deployments.of_every_project():
        rollout = deployment.active_rollout
        job = None if rollout is None else await uow.jobs.get(deployment.project_id, rollout.job_id)
        records.append(
            DeploymentRecord(
                deployment=deployment,
                releases=await uow.deployments.releases(deployment),
                cancel_requested=job is not None and job.cancel_requested,
            )
        )
    return records


async def begin_rollout(uow: UnitOfWork, rollout_id: str) -> Rollout:
    """Returns the rollout, progressing, its deadline counted from now; its job runs. Raises NotFound, IllegalTransition."""
    job, rollout = await _lock(uow, rollout_id)
    rollout = await uow.rollouts.move(rollout, RolloutState.PROGRESSING)
    await uow.leases.start_unleased(job)
    if isinstance(job.spec, DeploySpec):
        rollout = await uow.rollouts.set_deadline(rollout, ready_timeout_s=job.spec.ready_timeout_s)
    return rollout


async def promote_rollout(uow: UnitOfWork, rollout_id: str) -> Rollout:
    """Returns the rollout, promoted: its release is the current one, gateways learn of it, its job has succeeded.

    Raises NotFound, IllegalTransition.
    """
    job, rollout = await _lock(uow, rollout_id)
    rollout = await uow.rollouts.move(rollout, RolloutState.PROMOTED)
    release = await uow.deployments.release(rollout.to_release_id)
    name = await uow.deployments.promote(release)
    job = await uow.jobs.move(job, JobStatus.SUCCEEDED, reason=JobReason.COMPLETED, message=f"{name} serves {release.version_ref}")
    result = JobResult(version_id=release.version_id, deployment=name, release_id=release.id, seconds=_seconds(job))
    await uow.jobs.set_result(job, result)
    promoted = {"deployment": name, "release_id": release.id, "version_id": release.version_id, "from_release_id": rollout.from_release_id}
    await uow.audit.record(None, "rollout.promote", "rollout", rollout.id, promoted, project_id=job.project_id)
    uow.routes.bump()
    return rollout


async def fail_rollout(uow: UnitOfWork, rollout_id: str, state: RolloutState, reason: JobReason, message: str) -> Rollout:
    """Returns the rollout in ``state`` (rolled_back or aborted); its job ends failed or cancelled, as ``reason`` says.

    A rollout that never began can only be aborted with reason cancelled. Raises NotFound, IllegalTransition.
    """
    job, rollout = await _lock(uow, rollout_id)
    rollout = await uow.rollouts.move(rollout, state, message=message)
    release = await uow.deployments.release(rollout.to_release_id)
    job = await uow.jobs.move(job, REASONS[reason].final_status, reason=reason, message=message)
    result = JobResult(version_id=release.version_id, release_id=release.id, seconds=_seconds(job))
    await uow.jobs.set_result(job, result)
    uow.routes.bump()
    return rollout


async def upsert_replica(uow: UnitOfWork, replica: Replica) -> Replica:
    """Returns the replica as written; gateways learn of it where it began or ceased to take traffic. Raises NotFound."""
    return await uow.replicas.upsert(replica)


async def delete_replica(uow: UnitOfWork, replica_id: str) -> None:
    """Forgets a replica; one that is not there is no error."""
    await uow.replicas.delete(replica_id)


def _seconds(job: Job) -> float | None:
    """Returns the seconds from start to end of a job by the database's clock; None if it never started."""
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()


async def _lock(uow: UnitOfWork, rollout_id: str) -> tuple[Job, Rollout]:
    project_id, job_id = await uow.rollouts.job_key(rollout_id)
    job = await uow.jobs.lock(project_id, job_id)
    return job, await uow.rollouts.lock(rollout_id)
