"""The way back to an earlier release: at once where a replica of it is ready, else as soon as one is."""

from __future__ import annotations

from typing import NamedTuple

from quantry_core.errors import Conflict, NotServable, StaleRollout
from quantry_core.jobs import JobReason
from quantry_core.keys import Identity
from quantry_core.rollouts import (
    Deployment,
    Release,
    ReplicaState,
    RollbackOrder,
    Rollout,
    RolloutCause,
    RolloutReason,
    RolloutState,
)
from quantry_core.versions import VersionState
from quantry_store.repositories.rollouts import RolloutDraft
from quantry_store.transactions.adapters import check_rollout
from quantry_store.transactions.rollout_ends import Ending, Locked, complete_rollout, end_rollout, lock_rollout
from quantry_store.unit_of_work import UnitOfWork


class Return(NamedTuple):
    """A rollout back, and why."""

    draft: RolloutDraft
    reason: RolloutReason
    message: str


async def roll_back(uow: UnitOfWork, identity: Identity, name: str, order: RollbackOrder) -> Deployment:
    """Returns the deployment, which serves an earlier release or is about to; an active rollout is ended.

    Without a number: where a rollout is under way that is ended and what serves goes on, else the release is meant that served
    before the current one was rolled out. Asking for what is so, or under way, changes nothing. Raises UnknownDeployment,
    UnknownRelease; Conflict where there is none earlier, it never served, or the deployment is stopped or has adapters that could
    not go with it; NotServable for a version that is quarantined; StaleRollout if the deployment changed at that very moment: ask again.
    """
    seen = await uow.deployments.get(identity.project_id, name)
    target = await _target(uow, seen, order)
    if _is_under_way(seen.active_rollout, target) or (seen.active_rollout is None and _serves(seen, target)):
        return seen
    if seen.is_stopped:
        raise Conflict(f"deployment {seen.name!r} is stopped; start it before you roll it back")
    goes_back = target is not None and not _serves(seen, target)
    if seen.active_rollout is not None and seen.active_rollout.job_id is not None:
        # A job's row before those of all rollouts.
        await uow.jobs.lock(identity.project_id, seen.active_rollout.job_id)
    if goes_back:
        # The watched rollout's row before the active one's: the older before the newer.
        await uow.rollouts.end_watch_of(seen.id)
    if seen.active_rollout is not None:
        await _end(uow, identity, seen.active_rollout, order.note)
    deployment = await uow.deployments.lock(identity.project_id, name)
    if deployment.is_stopped or deployment.active_rollout is not None or _current_id(deployment) != _current_id(seen):
        raise StaleRollout(f"deployment {deployment.name!r} changed at this very moment; ask again")
    facts = {"name": name, "note": order.note, "ended_rollout_id": None if seen.active_rollout is None else seen.active_rollout.id}
    if goes_back and target is not None:
        await _check(uow, deployment, target)
        draft = RolloutDraft(RolloutCause.ROLLBACK, note=order.note, key_id=identity.key_id)
        message = f"rolled back to release {target.number}" + (f": {order.note}" if order.note else "")
        rollout = await serve_again(uow, deployment, target, Return(draft, RolloutReason.REQUESTED, message))
        facts |= {"release_id": target.id, "version_id": target.version_id, "rollout_id": rollout.id}
    await uow.audit.record(identity, "deployment.rollback", "deployment", deployment.id, facts)
    return await uow.deployments.get(identity.project_id, name)


async def serve_again(uow: UnitOfWork, deployment: Deployment, target: Release, back: Return) -> Rollout:
    """Returns the rollout that takes a locked deployment, which has none under way, to an earlier release.

    Promoted already where a replica of it is ready: gateways then only shift their weights. One that is scaled keeps all that are, as
    they get the whole load at once. Pending otherwise, and what serves goes on until one is.
    """
    rollout = await uow.rollouts.add(deployment, target, back.draft)
    uow.routes.bump()
    ready = [one.ordinal for one in deployment.replicas if one.release_id == target.id and one.state is ReplicaState.READY]
    if not ready:
        return rollout
    begun = Locked(await uow.rollouts.begin(rollout), None, deployment.project_id)
    rollout = await complete_rollout(uow, begun, reason=back.reason, message=back.message)
    if target.scaling is not None and max(ready) >= target.num_replicas:
        await uow.deployments.set_wanted(deployment.id, max(ready) + 1)
    return rollout


async def _target(uow: UnitOfWork, deployment: Deployment, order: RollbackOrder) -> Release | None:
    """Returns the release that is meant; None: what serves now, under a rollout that is ended."""
    current = deployment.current_release
    if order.release is not None:
        release = await uow.releases.numbered(deployment, order.release)
        if await uow.rollouts.promotion_to(release.id) is None:
            raise Conflict(f"release {release.number} of deployment {deployment.name!r} never served; deploy {release.version_ref} instead")
        return release
    if deployment.active_rollout is not None:
        return None
    promotion = None if current is None else await uow.rollouts.promotion_to(current.id)
    if current is None or promotion is None or promotion.from_release_id is None:
        serves = "serves nothing yet" if current is None else f"serves release {current.number}, its first one"
        raise Conflict(f"deployment {deployment.name!r} {serves}: there is no release before it")
    return await uow.releases.get(promotion.from_release_id)


def _is_under_way(rollout: Rollout | None, target: Release | None) -> bool:
    if rollout is None or rollout.cause is RolloutCause.DEPLOY:
        return False
    return target is None or rollout.to_release_id == target.id


def _serves(deployment: Deployment, target: Release | None) -> bool:
    return target is not None and _current_id(deployment) == target.id


def _current_id(deployment: Deployment) -> str | None:
    return None if deployment.current_release is None else deployment.current_release.id


async def _end(uow: UnitOfWork, identity: Identity, active: Rollout, note: str | None) -> None:
    locked = await lock_rollout(uow, active.id)
    if locked.rollout.finished_at is not None:
        raise StaleRollout(f"rollout {active.id} became {locked.rollout.state} at this very moment; ask again")
    await end_rollout(uow, locked, requested_end(locked.rollout, RolloutState.ROLLED_BACK, identity, note))


def requested_end(rollout: Rollout, state: RolloutState, identity: Identity, note: str | None) -> Ending:
    """Returns the end of an active rollout that a person asks for; what never began is aborted, not rolled back."""
    ending = RolloutState.ABORTED if rollout.state is RolloutState.PENDING else state
    words = "aborted" if ending is RolloutState.ABORTED else "rolled back"
    message = f"{words} by request" + (f": {note}" if note else "")
    return Ending(ending, RolloutReason.REQUESTED, JobReason.CANCELLED, message, identity.key_id, note)


async def _check(uow: UnitOfWork, deployment: Deployment, target: Release) -> None:
    version = await uow.versions.get(deployment.project_id, target.version_id)
    if version.state is not VersionState.READY:
        raise NotServable(f"{version.ref} is {version.state}; only a ready version is served")
    await check_rollout(uow, deployment, version, target.engine)
