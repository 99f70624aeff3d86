"""The time after a promotion, in which the release before stays warm and a failure brings it back: a part of decide, as pure."""

from __future__ import annotations

from datetime import datetime

from quantry_core.rollouts import Release, ReplicaState, Rollout, RolloutReason, RolloutState
from quantry_core.verdicts import Verdict
from quantry_deploy.actions import EndWatch, UndoPromotion
from quantry_deploy.crashes import crash_loops, crash_words
from quantry_deploy.observations import Observations
from quantry_deploy.policy import Policy
from quantry_deploy.wanted import num_wanted, of_release, warm_release
from quantry_store.transactions.rollouts import DeploymentRecord


def watch_move(record: DeploymentRecord, seen: Observations, now: datetime, policy: Policy) -> UndoPromotion | EndWatch | None:
    """Returns what is due for the promoted rollout that is watched: its end, or the way back.

    A rollout that has begun ends the watch of the one before. One that is pending leaves it, but nothing is undone any more: what
    it brings is the answer. A watch whose time is over goes on while the new release has nothing ready: the one before may be all
    there is to serve.
    """
    watched, active = record.deployment.watched_rollout, record.deployment.active_rollout
    if watched is None:
        return None
    if warm_release(record) is None or watched.watch_until is None:
        return EndWatch(watched)
    end = EndWatch(watched) if now >= watched.watch_until else None
    if active is not None:
        return end if active.state is RolloutState.PENDING else EndWatch(watched)
    if record.deployment.is_stopped:
        return end
    current = record.releases[watched.to_release_id]
    return _failure(record, watched, seen, policy) or (None if _is_missed(record, current) else end)


def _failure(record: DeploymentRecord, watched: Rollout, seen: Observations, policy: Policy) -> UndoPromotion | None:
    current = record.releases[watched.to_release_id]
    judgement = seen.judgements.get(watched.id)
    if judgement is not None and judgement.verdict is Verdict.FAIL:
        words = f"{current.version_ref} was judged to be worse after its promotion: {judgement.reason()}"
        return UndoPromotion(watched, RolloutReason.VERDICT_FAILED, words)
    replicas = of_release(record, current)
    looping = next((replica for replica in replicas if crash_loops(replica, policy)), None)
    if looping is not None:
        return UndoPromotion(watched, RolloutReason.CRASH_LOOP, crash_words(current, looping), looping)
    missing = seen.ready(current.id)
    patience_s = policy.lost_after_s if missing.was_ready else policy.start_timeout_s
    if _is_missed(record, current) and missing.none_s > patience_s:
        words = f"no replica of {current.version_ref} has been ready for {missing.none_s:.0f} s"
        witness = next((replica for replica in replicas if replica.state is not ReplicaState.READY), None)
        return UndoPromotion(watched, RolloutReason.NOT_READY, words, witness)
    return None


def _is_missed(record: DeploymentRecord, current: Release) -> bool:
    """Tells whether the current release has nothing ready where the one before has.

    Where that has nothing ready either, whatever is wrong is not this release: a host that starts again, say.
    """
    warm = warm_release(record)
    could_serve = warm is not None and _has_ready(record, warm)
    return could_serve and num_wanted(record.deployment, current) > 0 and not _has_ready(record, current)


def _has_ready(record: DeploymentRecord, release: Release) -> bool:
    return any(replica.state is ReplicaState.READY for replica in of_release(record, release))
