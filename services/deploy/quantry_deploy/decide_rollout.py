"""What happens next to a deployment's rollout: a part of decide, as pure.

A rollout goes through the stages of its strategy (stages.py). Whatever it is at, a release that cannot be served, does not stay up, is
not ready in time or is judged to be worse ends it, and the release before serves on. No verdict is never a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from quantry_core.jobs import JobReason
from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState, Rollout, RolloutReason, RolloutState
from quantry_core.strategies import ImmediateStrategy, OnInconclusive
from quantry_core.verdicts import Judgement, Verdict
from quantry_deploy.actions import BeginRollout, EndRollout, PauseRollout, PromoteRollout, RolloutMove, StageRollout
from quantry_deploy.crashes import crash_loops, crash_words
from quantry_deploy.observations import Observations, PullState, PullStatus
from quantry_deploy.policy import Policy
from quantry_deploy.stages import Stage, rollout_stages, stage_now
from quantry_deploy.wanted import of_release, turns
from quantry_deploy.watch import watch_move
from quantry_store.transactions.rollouts import DeploymentRecord

FILES_UNDER_WAY = frozenset({PullState.ABSENT, PullState.RUNNING})
"""A pending rollout waits for its files while they are; one whose files do not come begins, and ends with the reason."""


def rollout_move(record: DeploymentRecord, seen: Observations, now: datetime, policy: Policy) -> RolloutMove | None:
    """Returns the move that is due for the active rollout (out, in, on, or back), or for the one whose watch lasts."""
    rollout = record.deployment.active_rollout
    urgent = urgent_move(record, seen)
    if urgent is not None or rollout is None or rollout.state is RolloutState.PENDING:
        return urgent or _beginning(record, seen, now, policy) or watch_move(record, seen, now, policy)
    candidate = Candidate(record, rollout, seen, now, policy)
    return _failure(candidate) or watch_move(record, seen, now, policy) or _progress(candidate)


def urgent_move(record: DeploymentRecord, seen: Observations) -> EndRollout | None:
    """Returns the end that is due whatever becomes of the replicas: nothing that hangs may hold it up.

    A person who said promote is believed more than a verdict.
    """
    rollout = record.deployment.active_rollout
    if rollout is None:
        return None
    if record.cancel_requested:
        return EndRollout(rollout, RolloutState.ABORTED, RolloutReason.CANCELLED, JobReason.CANCELLED, "cancelled on request")
    if record.deployment.is_stopped:
        return EndRollout(rollout, RolloutState.ABORTED, RolloutReason.STOPPED, JobReason.CANCELLED, "the deployment was stopped")
    judgement = seen.judgements.get(rollout.id)
    if rollout.state is RolloutState.PENDING or rollout.promote_requested or judgement is None or judgement.verdict is not Verdict.FAIL:
        return None
    words = f"{record.releases[rollout.to_release_id].version_ref} was judged to be worse: {judgement.reason()}"
    return _rolled_back(rollout, RolloutReason.VERDICT_FAILED, JobReason.VERDICT_FAILED, words)


@dataclass(frozen=True)
class Candidate:
    """A rollout that has begun, with what is known of the release that it brings."""

    record: DeploymentRecord
    rollout: Rollout
    seen: Observations
    now: datetime
    policy: Policy

    @property
    def release(self) -> Release:
        return self.record.releases[self.rollout.to_release_id]

    @property
    def replicas(self) -> list[Replica]:
        """Those in the release's places."""
        places: dict[int, Replica] = {}
        for replica in of_release(self.record, self.release):
            if replica.ordinal < self.release.num_replicas:
                places.setdefault(replica.ordinal, replica)
        return list(places.values())

    @property
    def num_ready(self) -> int:
        return sum(_is_ready(replica, self.record.deployment.adapters, self.seen) for replica in self.replicas)

    @property
    def is_ready(self) -> bool:
        """Whether every replica is."""
        return self.num_ready >= self.release.num_replicas

    @property
    def is_coming_up(self) -> bool:
        """Whether its replicas are awaited for the first time."""
        return self.rollout.staged_at is None or isinstance(self.rollout.strategy, ImmediateStrategy)

    @property
    def is_lost(self) -> bool:
        """Whether what was ready once has been missing for too long."""
        if self.rollout.staged_at is None:
            return False
        missing, allowed_s = self.seen.ready(self.release.id), self.policy.allowed(self.rollout).total_seconds()
        patience_s = self.policy.lost_after_s if missing.was_ready else allowed_s
        return missing.none_s > patience_s or missing.some_missing_s > allowed_s

    @property
    def awaits_stable(self) -> bool:
        """Whether the release to be compared with was scaled to zero, and is coming up: what had a share now would get everything."""
        current = self.record.deployment.current_release
        if current is None or current.scaling is None or current.scaling.min_replicas:
            return False
        is_there = any(replica.state is ReplicaState.READY for replica in of_release(self.record, current))
        return not is_there and self.seen.ready(current.id).none_s <= self.policy.start_timeout_s

    @property
    def pull(self) -> PullStatus:
        return self.seen.pull(self.release.id)

    @property
    def judgement(self) -> Judgement | None:
        """Of the stage that it is at, by evidence that this controller has read: what a record says is never enough to go on."""
        return self.seen.judgements.get(self.rollout.id)

    def has_lasted_s(self, seconds: float) -> bool:
        """Tells whether its stage began so long ago."""
        return self.rollout.staged_at is not None and self.now - self.rollout.staged_at >= timedelta(seconds=seconds)


def _beginning(record: DeploymentRecord, seen: Observations, now: datetime, policy: Policy) -> RolloutMove | None:
    """Returns the beginning of a pending rollout once its files are here, or will not come."""
    rollout = record.deployment.active_rollout
    if rollout is None or rollout.state is not RolloutState.PENDING:
        return None
    is_under_way = seen.pull(rollout.to_release_id).state in FILES_UNDER_WAY
    return None if is_under_way and now <= policy.deadline(rollout) else BeginRollout(rollout)


def _failure(candidate: Candidate) -> EndRollout | None:
    """Returns how a rollout ends whose release does not get, or keep, its replicas."""
    rollout, release, pull = candidate.rollout, candidate.release, candidate.pull
    if pull.state is PullState.REFUSED:
        words = f"{release.version_ref} cannot be served: {pull.message}"
        return _rolled_back(rollout, RolloutReason.NOT_SERVABLE, pull.reason, words)
    looping = next((replica for replica in candidate.replicas if crash_loops(replica, candidate.policy)), None)
    if looping is not None:
        return _rolled_back(rollout, RolloutReason.CRASH_LOOP, JobReason.INTERNAL, crash_words(release, looping), looping)
    is_late = candidate.is_coming_up and candidate.now > candidate.policy.deadline(rollout)
    return _out_of_time(candidate) if not candidate.is_ready and (is_late or candidate.is_lost) else None


def _progress(candidate: Candidate) -> RolloutMove | None:
    """Returns how a rollout goes on that nothing has gone wrong with."""
    rollout = candidate.rollout
    if rollout.state is not RolloutState.PROGRESSING:
        return None
    plan = turns(candidate.record)
    if plan is not None and not candidate.is_ready:
        return StageRollout(rollout, 0, plan.percent, 0) if plan.percent != rollout.percent else None
    if rollout.promote_requested:
        return PromoteRollout(rollout) if candidate.is_ready else None
    stage = stage_now(rollout)
    # Those that take turns have a share before all are ready: for them the stage has begun already.
    if rollout.staged_at is None and plan is None and not stage.is_passage:
        return _enter(candidate, rollout.stage)
    if rollout.staged_at is None and not candidate.is_ready:
        return None
    return _leave(candidate, stage)


def _enter(candidate: Candidate, index: int) -> RolloutMove | None:
    """Returns the beginning of a stage, or the promotion after the last one: nothing moves before every replica is ready."""
    if not candidate.is_ready:
        return None
    stages = rollout_stages(candidate.rollout)
    if index >= len(stages):
        return PromoteRollout(candidate.rollout)
    if stages[index].is_exposed and candidate.awaits_stable:
        return None
    return StageRollout(candidate.rollout, index, stages[index].percent, stages[index].mirror_percent)


def _leave(candidate: Candidate, stage: Stage) -> RolloutMove | None:
    rollout = candidate.rollout
    if not candidate.has_lasted_s(stage.wait_s) and not stage.is_passage:
        return None
    judgement = candidate.judgement
    if stage.needs_verdict and (judgement is None or judgement.verdict is not Verdict.PASS):
        return _inconclusive(candidate, stage) if candidate.has_lasted_s(max(stage.wait_s, stage.timeout_s or 0.0)) else None
    if stage.pause and not rollout.is_resumed:
        return PauseRollout(rollout, RolloutReason.STEP, f"stage {rollout.stage + 1} is done; resume or promote the rollout to go on")
    return _enter(candidate, rollout.stage + 1)


def _inconclusive(candidate: Candidate, stage: Stage) -> RolloutMove:
    """Returns what follows a stage that has had its time and no verdict. One that a person resumed has its time again."""
    rollout, judgement = candidate.rollout, candidate.judgement
    if rollout.is_resumed:
        return StageRollout(rollout, rollout.stage, stage.percent, stage.mirror_percent)
    why = "nothing was measured" if judgement is None else judgement.reason()
    words = f"no verdict within {stage.timeout_s or 0:.0f} s: {why}"
    if stage.on_inconclusive is OnInconclusive.PAUSE:
        return PauseRollout(rollout, RolloutReason.INCONCLUSIVE, words)
    return _rolled_back(rollout, RolloutReason.INCONCLUSIVE, JobReason.TIMED_OUT, words)


def _out_of_time(candidate: Candidate) -> EndRollout:
    release, replicas, adapters = candidate.release, candidate.replicas, candidate.record.deployment.adapters
    when = "were ready in time" if candidate.rollout.staged_at is None else "stayed ready"
    words = f"{candidate.num_ready} of {release.num_replicas} replicas of {release.version_ref} {when}"
    if candidate.pull.message:
        words += f"; its files: {candidate.pull.message}"
    if candidate.num_ready < sum(replica.state is ReplicaState.READY for replica in replicas):
        words += "; not every adapter was loaded" + "".join(f"; {one.name}: {one.message}" for one in adapters if one.message)
    witness = next((replica for replica in replicas if replica.state is not ReplicaState.READY), None)
    return _rolled_back(candidate.rollout, RolloutReason.NOT_READY, JobReason.TIMED_OUT, words, witness)


def _rolled_back(
    rollout: Rollout, reason: RolloutReason, job_reason: JobReason, message: str, witness: Replica | None = None
) -> EndRollout:
    return EndRollout(rollout, RolloutState.ROLLED_BACK, reason, job_reason, message, witness)


def _is_ready(replica: Replica, adapters: list[AttachedAdapter], seen: Observations) -> bool:
    """The record says ready, with every adapter, and its process still is there this very moment."""
    has_adapters = {adapter.id for adapter in adapters} <= set(replica.adapter_ids)
    return replica.state is ReplicaState.READY and has_adapters and seen.replica(replica.id).is_running
