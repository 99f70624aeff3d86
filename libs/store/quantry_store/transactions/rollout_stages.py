"""The stages of a rollout and the watch after it, as the controller goes through them, and the evidence that it goes by.

A step names what it was decided by, and is refused if that has changed: a person may have paused the rollout, or ended it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from quantry_core.errors import StaleRollout
from quantry_core.rollouts import PeriodCause, Rollout, RolloutCause, RolloutReason, RolloutState
from quantry_core.traffic import TrafficWindow
from quantry_core.verdicts import Judgement
from quantry_store.repositories.periods import PeriodDraft
from quantry_store.repositories.rollouts import RolloutDraft
from quantry_store.transactions.rollbacks import Return, serve_again
from quantry_store.transactions.serving import note_change
from quantry_store.transactions.webhook_events import tell_verdict
from quantry_store.unit_of_work import UnitOfWork


async def stage_rollout(uow: UnitOfWork, rollout_id: str, *, seen: Rollout, stage: int, percent: int, mirror_percent: int) -> Rollout:
    """Returns the rollout at a stage that begins now, its target with that share of requests; gateways learn of it.

    Raises UnknownRollout, StaleRollout if it does not progress or is not as it was ``seen``.
    """
    rollout = await _as_seen(uow, rollout_id, seen)
    rollout = await uow.rollouts.set_stage(rollout, stage=stage, percent=percent, mirror_percent=mirror_percent)
    draft = PeriodDraft(PeriodCause.STAGE, rollout_id=rollout.id, key_id=rollout.key_id, note=rollout.note)
    await note_change(uow, rollout.deployment_id, draft)
    uow.routes.bump()
    return rollout


async def pause_rollout(uow: UnitOfWork, rollout_id: str, *, seen: Rollout, reason: RolloutReason, message: str) -> Rollout:
    """Returns the rollout, paused with the share that it has. Raises UnknownRollout, StaleRollout as ``stage_rollout`` does."""
    rollout = await _as_seen(uow, rollout_id, seen)
    return await uow.rollouts.move(rollout, RolloutState.PAUSED, reason=reason, message=message)


async def judge_rollout(uow: UnitOfWork, rollout_id: str, judgement: Judgement) -> Rollout:
    """Returns the rollout with what the last look at its evidence found. Raises UnknownRollout."""
    before = await uow.rollouts.lock(rollout_id)
    rollout = await uow.rollouts.set_judgement(rollout_id, judgement)
    await tell_verdict(uow, rollout_id, before.judgement, judgement)
    return rollout


async def undo_promotion(uow: UnitOfWork, rollout_id: str, reason: RolloutReason, message: str) -> Rollout:
    """Returns the rollout that takes a deployment back to the release before a promotion which is watched, and ends the watch.

    Promoted already where a replica of that release is ready; pending otherwise. Raises UnknownRollout; StaleRollout where the
    watch is over, another rollout is under way, or the deployment is stopped.
    """
    watched = await uow.rollouts.lock(rollout_id)
    if not await uow.rollouts.end_watch(rollout_id) or watched.from_release_id is None:
        raise StaleRollout(f"rollout {rollout_id} is not watched any more")
    deployment = await uow.deployments.lock_by_id(watched.deployment_id)
    current = deployment.current_release
    if deployment.is_stopped or deployment.active_rollout is not None or current is None or current.id != watched.to_release_id:
        raise StaleRollout(f"deployment {deployment.name!r} does not serve what rollout {rollout_id} brought it any more")
    target = await uow.releases.get(watched.from_release_id)
    back = Return(RolloutDraft(RolloutCause.WATCH, note=message), reason, message)
    rollout = await serve_again(uow, deployment, target, back)
    facts = {"deployment": deployment.name, "release_id": target.id, "undone": rollout_id, "reason": reason, "message": message}
    await uow.audit.record(None, "rollout.undo", "rollout", rollout.id, facts, project_id=deployment.project_id)
    return rollout


async def end_watch(uow: UnitOfWork, rollout_id: str) -> Rollout:
    """Returns the rollout, watched no more: the release before it need not be kept. One that is not watched is returned as it is.

    Raises UnknownRollout.
    """
    rollout = await uow.rollouts.lock(rollout_id)
    await uow.rollouts.end_watch(rollout_id)
    return rollout


async def set_wanted(uow: UnitOfWork, deployment_id: str, num_wanted: int | None) -> None:
    """Says how many replicas of its current release a deployment is to have; None: as many as the release says.

    Gateways learn of it, as they are told whether requests can wake a deployment.
    """
    if await uow.deployments.set_wanted(deployment_id, num_wanted):
        uow.routes.bump()


async def load_windows(
    uow: UnitOfWork, release_ids: Collection[str], *, since: datetime, after_id: int = 0, limit: int | None = None
) -> tuple[list[tuple[str, TrafficWindow]], int]:
    """Returns what was measured of these releases in windows that began at ``since`` or later, each with its release's id, and the
    id to go on after the next time; at most ``limit`` of them."""
    found = await uow.traffic.windows(release_ids, since=since, after_id=after_id, limit=limit)
    last_id = found[-1][0] if found else after_id
    return [(window.release_id, window) for _, window in found], last_id


async def _as_seen(uow: UnitOfWork, rollout_id: str, seen: Rollout) -> Rollout:
    rollout = await uow.rollouts.lock(rollout_id)
    if rollout.state is not RolloutState.PROGRESSING or _fence(rollout) != _fence(seen):
        raise StaleRollout(f"rollout {rollout_id} is {rollout.state} at stage {rollout.stage} and was {seen.state} at {seen.stage}")
    return rollout


def _fence(rollout: Rollout) -> tuple[object, ...]:
    """Returns what the next step of a rollout is decided by, as far as others than the controller change it."""
    return rollout.state, rollout.stage, rollout.percent, rollout.mirror_percent, rollout.is_resumed, rollout.promote_requested
