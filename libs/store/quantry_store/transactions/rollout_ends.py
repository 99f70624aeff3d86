"""How rollouts end. A rollout and its job, if it has one, always move together, and what serves is noted with them."""

from __future__ import annotations

from typing import NamedTuple

from quantry_core.jobs import REASONS, Job, JobReason, JobResult, JobStatus
from quantry_core.rollouts import PeriodCause, Release, Rollout, RolloutCause, RolloutReason, RolloutState
from quantry_store.repositories.periods import PeriodDraft
from quantry_store.transactions.serving import note_change, note_release
from quantry_store.transactions.webhook_events import tell_rollout_end
from quantry_store.unit_of_work import UnitOfWork


class Locked(NamedTuple):
    """A rollout with the job that it ends, None if it has none. Both rows are locked."""

    rollout: Rollout
    job: Job | None
    project_id: str


class Ending(NamedTuple):
    """How a rollout ends without success, and who ended it: None is the platform."""

    state: RolloutState
    reason: RolloutReason
    job_reason: JobReason
    message: str
    key_id: str | None = None
    note: str | None = None


async def lock_rollout(uow: UnitOfWork, rollout_id: str) -> Locked:
    """Returns a rollout, its job locked before it; raises UnknownRollout."""
    owner = await uow.rollouts.owner(rollout_id)
    job = None if owner.job_id is None else await uow.jobs.lock(owner.project_id, owner.job_id)
    return Locked(await uow.rollouts.lock(rollout_id), job, owner.project_id)


async def end_rollout(uow: UnitOfWork, locked: Locked, ending: Ending) -> Rollout:
    """Returns the rollout, rolled back or aborted: its target has no share any more, and its job ends as the reason says.

    Raises IllegalTransition.
    """
    rollout = await uow.rollouts.move(locked.rollout, ending.state, reason=ending.reason, message=ending.message)
    if locked.job is not None:
        release = await uow.releases.get(rollout.to_release_id)
        status = REASONS[ending.job_reason].final_status
        job = await uow.jobs.move(locked.job, status, reason=ending.job_reason, message=ending.message)
        await uow.jobs.set_result(job, JobResult(version_id=release.version_id, release_id=release.id, seconds=_seconds(job)))
    cause = PeriodCause.ABORTED if ending.state is RolloutState.ABORTED else PeriodCause.ROLLED_BACK
    draft = PeriodDraft(cause, ending.reason, ending.message, rollout.id, ending.key_id, ending.note)
    await note_change(uow, rollout.deployment_id, draft)
    await tell_rollout_end(uow, locked.project_id, rollout, locked.job)
    uow.routes.bump()
    return rollout


async def complete_rollout(uow: UnitOfWork, locked: Locked, *, reason: RolloutReason, message: str | None = None) -> Rollout:
    """Returns the rollout, promoted: its release is the current one, gateways learn of it, its job has succeeded.

    With a watch, and a release before, the watch begins. Raises IllegalTransition.
    """
    rollout = await uow.rollouts.move(locked.rollout, RolloutState.PROMOTED, reason=reason, message=message)
    if rollout.watch_s > 0 and rollout.from_release_id is not None:
        rollout = await uow.rollouts.watch(rollout)
    release = await uow.releases.get(rollout.to_release_id)
    name = await uow.deployments.promote(release)
    if locked.job is not None:
        await _succeed(uow, locked.job, release, name)
    cause = PeriodCause.PROMOTED if rollout.cause is RolloutCause.DEPLOY else PeriodCause.ROLLED_BACK
    await note_release(uow, rollout.deployment_id, PeriodDraft(cause, reason, message, rollout.id, rollout.key_id, rollout.note))
    promoted = {"deployment": name, "release_id": release.id, "version_id": release.version_id, "from_release_id": rollout.from_release_id}
    await uow.audit.record(None, "rollout.promote", "rollout", rollout.id, promoted, project_id=locked.project_id)
    await tell_rollout_end(uow, locked.project_id, rollout, locked.job)
    uow.routes.bump()
    return rollout


async def _succeed(uow: UnitOfWork, job: Job, release: Release, name: str) -> None:
    job = await uow.jobs.move(job, JobStatus.SUCCEEDED, reason=JobReason.COMPLETED, message=f"{name} serves {release.version_ref}")
    result = JobResult(version_id=release.version_id, deployment=name, release_id=release.id, seconds=_seconds(job))
    await uow.jobs.set_result(job, result)


def _seconds(job: Job) -> float | None:
    """Returns the seconds from start to end of a job by the database's clock; None if it never started."""
    if job.started_at is None or job.finished_at is None:
        return None
    return (job.finished_at - job.started_at).total_seconds()
