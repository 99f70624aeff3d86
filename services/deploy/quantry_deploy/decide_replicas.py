"""What to do next about the replicas of one deployment: a part of decide, as pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from quantry_core.rollouts import Release, Replica, ReplicaState
from quantry_deploy.actions import (
    Action,
    AddReplica,
    FailReplica,
    KillReplica,
    PullFiles,
    RemoveReplica,
    SetReplica,
    StartReplica,
    TerminateReplica,
)
from quantry_deploy.observations import Observations, PullState, PullStatus, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_deploy.wanted import WITHOUT_PROCESS, Wanted


def serve(wanted: Wanted, replicas: dict[int, Replica], seen: Observations, now: datetime, policy: Policy) -> list[Action]:
    """Returns what brings a wanted release's replicas up and keeps them there; ``replicas`` by their places in it."""
    release = wanted.release
    pull = seen.pull(release.id)
    actions: list[Action] = []
    missing = [ordinal for ordinal in sorted(wanted.ordinals) if ordinal not in replicas]
    if pull.state is PullState.ABSENT and (missing or any(replica.state in WITHOUT_PROCESS for replica in replicas.values())):
        actions.append(PullFiles(release))
    actions += [AddReplica(release, ordinal) for ordinal in missing]
    for replica in replicas.values():
        actions += _keep_up(replica, release, _Look(seen.replica(replica.id), pull, now, policy))
    return actions


def wind_down(replica: Replica, seen: Observations, now: datetime, policy: Policy) -> list[Action]:
    """Returns what ends a replica that nobody wants."""
    return _wind_down(replica, _Look(seen.replica(replica.id), seen.pull(replica.release_id), now, policy))


@dataclass(frozen=True)
class _Look:
    """What the rules for one replica go by."""

    seen: ReplicaObservation
    pull: PullStatus
    now: datetime
    policy: Policy

    def has_passed_s(self, replica: Replica, seconds: float) -> bool:
        """Tells whether the replica has been in its state for more than so many seconds."""
        return self.now - replica.updated_at > timedelta(seconds=seconds)


def _keep_up(replica: Replica, release: Release, look: _Look) -> list[Action]:
    match replica.state:
        case ReplicaState.PULLING | ReplicaState.STOPPED:
            return _bring_up(replica, release, look)
        case ReplicaState.STARTING:
            return _watch_start(replica, look)
        case ReplicaState.READY:
            return _watch_ready(replica, look)
        case ReplicaState.UNHEALTHY:
            return _watch_unhealthy(replica, look)
        case ReplicaState.FAILED:
            return _restart(replica, release, look)
        case ReplicaState.STOPPING:
            # It was unwanted a moment ago. It ends first; a new one takes its place.
            return _wind_down(replica, look)


def _bring_up(replica: Replica, release: Release, look: _Look) -> list[Action]:
    if look.pull.state is PullState.DONE:
        return [StartReplica(replica, release, num_restarts=replica.num_restarts)]
    message = look.pull.message or None
    if replica.state is ReplicaState.STOPPED or replica.message != message:
        return [SetReplica(replica, ReplicaState.PULLING, message)]
    return []


def _watch_start(replica: Replica, look: _Look) -> list[Action]:
    if not look.seen.is_running:
        return [FailReplica(replica, f"the engine {look.seen.ending or 'ended'} before it was ready", replica.num_restarts)]
    if look.seen.is_proven:
        return [SetReplica(replica, ReplicaState.READY)]
    if look.has_passed_s(replica, look.policy.start_timeout_s):
        words = f"the engine was not ready after {look.policy.start_timeout_s:.0f} s"
        return [FailReplica(replica, f"{words}: {look.seen.doubt}" if look.seen.doubt else words, replica.num_restarts)]
    return []


def _watch_ready(replica: Replica, look: _Look) -> list[Action]:
    if not look.seen.is_running:
        was_settled = look.has_passed_s(replica, look.policy.settled_after_s)
        return [FailReplica(replica, f"the engine {look.seen.ending or 'ended'}", 0 if was_settled else replica.num_restarts)]
    if look.seen.silent_s > look.policy.unhealthy_after_s:
        return [SetReplica(replica, ReplicaState.UNHEALTHY, f"no answer for {look.seen.silent_s:.0f} s")]
    return []


def _watch_unhealthy(replica: Replica, look: _Look) -> list[Action]:
    if not look.seen.is_running:
        return [FailReplica(replica, f"the engine {look.seen.ending or 'ended'}", replica.num_restarts)]
    if look.seen.answers:
        return [SetReplica(replica, ReplicaState.READY)]
    if look.seen.silent_s > look.policy.restart_after_s:
        return [FailReplica(replica, f"no answer for {look.seen.silent_s:.0f} s", replica.num_restarts)]
    return []


def _restart(replica: Replica, release: Release, look: _Look) -> list[Action]:
    if look.seen.is_running:
        return [KillReplica(replica)]
    is_due = look.has_passed_s(replica, look.policy.backoff_s(replica.num_restarts))
    if is_due and look.pull.state is PullState.DONE:
        return [StartReplica(replica, release, num_restarts=replica.num_restarts + 1)]
    return []


def _wind_down(replica: Replica, look: _Look) -> list[Action]:
    """Returns what ends a replica: one that may have requests loses its route first and is asked to end after the drain."""
    if not look.seen.is_running:
        return [RemoveReplica(replica)]
    if replica.state is ReplicaState.READY:
        return [SetReplica(replica, ReplicaState.STOPPING, "draining")]
    if replica.state is not ReplicaState.STOPPING:
        return [SetReplica(replica, ReplicaState.STOPPING, "stopping"), TerminateReplica(replica)]
    if look.has_passed_s(replica, look.policy.drain_s + look.policy.stop_grace_s):
        return [KillReplica(replica)]
    if look.has_passed_s(replica, look.policy.drain_s):
        return [TerminateReplica(replica)]
    return []
