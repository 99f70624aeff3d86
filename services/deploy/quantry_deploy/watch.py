"""The time after a promotion, in which the release before stays warm and a failure brings it back: a part of decide, as pure."""

from __future__ import annotations

from datetime import datetime

from quantry_core.rollouts import ReplicaState, Rollout, RolloutReason, RolloutState
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
    it brings is the answer.
    """
    watched, active = record.deployment.watched_rollout, record.deployment.active_rollout
    if watched is None:
        return None
    if warm_release(record) is None or watched.watch_until is None or now >= watched.watch_until:
        return EndWatch(watched)
    if active is not None:
        return None if active.state is RolloutState.PENDING else EndWatch(watched)
    return None if record.deployment.is_stopped else _failure(record, watched, seen, policy)


def _failure(record: DeploymentRecord, watched: Rollout, seen: Observations, policy: Policy) -> UndoPromotion | None:
    current, warm = record.deployment.current_release, warm_release(record)
    if current is None or warm is None:
        return None
    judgement = seen.judgements.get(watched.id)
    if judgement is not None and judgement.verdict is Verdict.FAIL:
        words = f"{current.version_ref} was judged to be worse after its promotion: {judgement.reason()}"
        return UndoPromotion(watched, RolloutReason.VERDICT_FAILED, words)
    replicas = of_release(record, current)
    looping = next((replica for replica in replicas if crash_loops(replica, policy)), None)
    if looping is not None:
        return UndoPromotion(watched, RolloutReason.CRASH_LOOP, crash_words(current, looping), looping)
    # Where the release before has nothing ready either, whatever is wrong is not this release: a host that starts again, say.
    could_serve = any(replica.state is ReplicaState.READY for replica in of_release(record, warm))
    missing = seen.ready(current.id)
    patience_s = policy.lost_after_s if missing.was_ready else policy.start_timeout_s
    if could_serve and num_wanted(record.deployment, current) and missing.none_s > patience_s:
        words = f"no replica of {current.version_ref} has been ready for {missing.none_s:.0f} s"
        witness = next((replica for replica in replicas if replica.state is not ReplicaState.READY), None)
        return UndoPromotion(watched, RolloutReason.NOT_READY, words, witness)
    return None
