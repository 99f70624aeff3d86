"""What the rollout controller reads, and the beginning and the ends of a rollout as it persists them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import StaleRollout
from quantry_core.jobs import JobReason
from quantry_core.rollouts import Deployment, Release, Replica, Rollout, RolloutReason, RolloutState
from quantry_store.transactions.rollout_ends import Ending, complete_rollout, end_rollout, lock_rollout
from quantry_store.unit_of_work import UnitOfWork

_BY_EVIDENCE = frozenset({RolloutReason.VERDICT_FAILED, RolloutReason.INCONCLUSIVE})
"""Ends that a person who says promote is believed more than."""


class DeploymentRecord(BaseModel):
    """All that the controller decides about one deployment by."""

    model_config = ConfigDict(frozen=True)

    deployment: Deployment
    releases: dict[str, Release] = Field(
        description="By id: the current one, both ends of the active and of the watched rollout, those of replicas."
    )
    cancel_requested: bool = Field(description="The job of the active rollout is to be cancelled.")


async def load_deployments(uow: UnitOfWork) -> list[DeploymentRecord]:
    """Returns what there is to reconcile, of every project, as it was at one moment. Must be the first in its transaction.

    Nothing is locked: each step that follows locks what it moves, and is refused if that moved meanwhile.
    """
    await uow.read_one_moment()
    records = []
    for deployment in await uow.deployments.of_every_project():
        rollout = deployment.active_rollout
        job_id = None if rollout is None else rollout.job_id
        job = None if job_id is None else await uow.jobs.get(deployment.project_id, job_id)
        records.append(
            DeploymentRecord(
                deployment=deployment,
                releases=await uow.deployments.releases(deployment),
                cancel_requested=job is not None and job.cancel_requested,
            )
        )
    return records


async def begin_rollout(uow: UnitOfWork, rollout_id: str) -> Rollout:
    """Returns the rollout, progressing, its deadline counted from now; its job, if it has one, runs. The watch of the promotion
    before it is over. Raises UnknownRollout, IllegalTransition."""
    owner = await uow.rollouts.owner(rollout_id)
    job = None if owner.job_id is None else await uow.jobs.lock(owner.project_id, owner.job_id)
    await uow.rollouts.end_watch_of(owner.deployment_id)
    rollout = await uow.rollouts.begin(await uow.rollouts.lock(rollout_id))
    if job is not None:
        await uow.leases.start_unleased(job)
    uow.routes.bump()
    return rollout


async def promote_rollout(uow: UnitOfWork, rollout_id: str) -> Rollout:
    """Returns the rollout, promoted: its release is the current one, gateways learn of it, its job has succeeded. Its watch begins
    where it has one. Raises UnknownRollout, IllegalTransition, StaleRollout if its deployment was stopped meanwhile."""
    locked = await lock_rollout(uow, rollout_id)
    deployment = await uow.deployments.lock_by_id(locked.rollout.deployment_id)
    if deployment.is_stopped:
        raise StaleRollout(f"deployment {deployment.name!r} was stopped: rollout {rollout_id} is not promoted any more")
    return await complete_rollout(uow, locked, reason=RolloutReason.COMPLETED)


async def fail_rollout(  # noqa: PLR0917 - where it ends, and why, read in this order
    uow: UnitOfWork, rollout_id: str, state: RolloutState, reason: RolloutReason, job_reason: JobReason, message: str
) -> Rollout:
    """Returns the rollout in ``state`` (rolled_back or aborted), its target without a share; its job ends failed or cancelled, as
    ``job_reason`` says.

    A rollout that never began can only be aborted, its job with reason cancelled. Raises UnknownRollout, IllegalTransition;
    StaleRollout where it is to end by its evidence, and a person wants it promoted meanwhile.
    """
    locked = await lock_rollout(uow, rollout_id)
    if reason in _BY_EVIDENCE and locked.rollout.promote_requested:
        raise StaleRollout(f"rollout {rollout_id} is to be promoted, whatever was measured")
    return await end_rollout(uow, locked, Ending(state, reason, job_reason, message))


async def upsert_replica(uow: UnitOfWork, replica: Replica) -> Replica:
    """Returns the replica as written; gateways learn of it where it began or ceased to take traffic. Raises NotFound."""
    return await uow.replicas.upsert(replica)


async def delete_replica(uow: UnitOfWork, replica_id: str) -> None:
    """Forgets a replica; one that is not there is no error."""
    await uow.replicas.delete(replica_id)
