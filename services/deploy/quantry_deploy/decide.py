"""What to do next about one deployment: a pure function of its record, what was seen, and the time.

Each pass does the little that is due and leaves the rest to the next one, so that a controller that dies at any point
is continued by its successor from the records alone. docs/state-machines.md draws the states.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from quantry_core.jobs import JobReason
from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState, Rollout, RolloutState
from quantry_deploy.actions import (
    Action,
    AddReplica,
    BeginRollout,
    EndRollout,
    FailReplica,
    KillReplica,
    PromoteRollout,
    PullFiles,
    RemoveReplica,
    SetReplica,
    StartReplica,
    TerminateReplica,
)
from quantry_deploy.decide_adapters import adapter_actions
from quantry_deploy.observations import Observations, PullState, PullStatus, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_store.transactions.rollouts import DeploymentRecord

WITHOUT_PROCESS = frozenset({ReplicaState.PULLING, ReplicaState.FAILED, ReplicaState.STOPPED})
"""States in which a wanted replica waits to be started, and needs the release's files for that."""

OF_A_REPLICA = (StartReplica, SetReplica, FailReplica, TerminateReplica, KillReplica, RemoveReplica)
"""Actions after which a replica's adapters are looked at in the next pass."""


def decide(record: DeploymentRecord, seen: Observations, now: datetime, policy: Policy) -> list[Action]:
    """Returns what is due. A move of the rollout comes alone: the next pass sees the world after it."""
    move = _rollout_move(record, seen, now, policy)
    if move is not None:
        return [move]
    actions: list[Action] = []
    wanted = wanted_releases(record)
    kept: set[str] = set()
    for release in wanted:
        replicas = _replicas_by_ordinal(record, release)
        kept.update(replica.id for replica in replicas.values())
        actions += _serve(release, replicas, seen, now, policy)
    for replica in record.deployment.replicas:
        if replica.id not in kept:
            actions += _wind_down(replica, _Look(seen.replica(replica.id), seen.pull(replica.release_id), now, policy))
    busy = {action.replica.id for action in actions if isinstance(action, OF_A_REPLICA)}
    return [*actions, *adapter_actions(record, wanted, seen, now, policy, busy=busy)]


def wanted_releases(record: DeploymentRecord) -> list[Release]:
    """Returns the releases that should have replicas: none if stopped; during a rollout the old one and the new one."""
    deployment = record.deployment
    if deployment.is_stopped:
        return []
    wanted = [] if deployment.current_release is None else [deployment.current_release]
    rollout = deployment.active_rollout
    # A pending rollout's replicas begin with it; the old release goes on until the new one is promoted.
    if rollout is not None and rollout.state is not RolloutState.PENDING:
        target = record.releases[rollout.to_release_id]
        if target.id not in {release.id for release in wanted}:
            wanted.append(target)
    return wanted


def kept_releases(record: DeploymentRecord) -> list[Release]:
    """Returns the releases whose files stay on this host: the wanted ones, the active rollout's target, those of replicas."""
    ids = {release.id for release in wanted_releases(record)} | {replica.release_id for replica in record.deployment.replicas}
    if record.deployment.active_rollout is not None:
        ids.add(record.deployment.active_rollout.to_release_id)
    return [release for release in record.releases.values() if release.id in ids]


def needs_files(record: DeploymentRecord, release: Release) -> bool:
    """Tells whether some replica of a wanted release has yet to be started."""
    replicas = _replicas_by_ordinal(record, release)
    return len(replicas) < release.num_replicas or any(replica.state in WITHOUT_PROCESS for replica in replicas.values())


def _rollout_move(record: DeploymentRecord, seen: Observations, now: datetime, policy: Policy) -> Action | None:
    """Returns the move that is due for the active rollout: out on request, in, back, or forward."""
    rollout = record.deployment.active_rollout
    if rollout is None:
        return None
    if record.cancel_requested:
        return EndRollout(rollout.id, RolloutState.ABORTED, JobReason.CANCELLED, "cancelled on request")
    if record.deployment.is_stopped:
        return EndRollout(rollout.id, RolloutState.ABORTED, JobReason.CANCELLED, "the deployment was stopped")
    if rollout.state is RolloutState.PENDING:
        return BeginRollout(rollout.id)
    release = record.releases[rollout.to_release_id]
    replicas = list(_replicas_by_ordinal(record, release).values())
    return _verdict(rollout, release, replicas, seen, now, adapters=record.deployment.adapters, policy=policy)


def _verdict(
    rollout: Rollout,
    release: Release,
    replicas: list[Replica],
    seen: Observations,
    now: datetime,
    *,
    adapters: list[AttachedAdapter],
    policy: Policy,
) -> Action | None:
    """Returns how a rollout that goes on should end, if that can be told yet."""
    pull = seen.pull(release.id)
    if pull.state is PullState.REFUSED:
        return EndRollout(rollout.id, RolloutState.ROLLED_BACK, pull.reason, f"{release.version_ref} cannot be served: {pull.message}")
    looping = next((replica for replica in replicas if _crash_loops(replica, policy)), None)
    if looping is not None:
        words = f"{release.version_ref} does not stay up: replica {looping.ordinal} ended {looping.num_restarts + 1} times"
        return EndRollout(rollout.id, RolloutState.ROLLED_BACK, JobReason.INTERNAL, words, looping)
    num_ready = sum(_is_ready(replica, adapters, seen) for replica in replicas)
    if num_ready >= release.num_replicas and rollout.state is RolloutState.PROGRESSING:
        return PromoteRollout(rollout.id)
    if now > policy.deadline(rollout):
        return _out_of_time(rollout, release, replicas, adapters, num_ready=num_ready, pull=pull)
    return None


def _out_of_time(
    rollout: Rollout, release: Release, replicas: list[Replica], adapters: list[AttachedAdapter], *, num_ready: int, pull: PullStatus
) -> EndRollout:
    words = f"{num_ready} of {release.num_replicas} replicas of {release.version_ref} were ready in time"
    if pull.message:
        words += f"; its files: {pull.message}"
    if num_ready < sum(replica.state is ReplicaState.READY for replica in replicas):
        words += "; not every adapter was loaded" + "".join(f"; {one.name}: {one.message}" for one in adapters if one.message)
    witness = next((replica for replica in replicas if replica.state is not ReplicaState.READY), None)
    return EndRollout(rollout.id, RolloutState.ROLLED_BACK, JobReason.TIMED_OUT, words, witness)


def _is_ready(replica: Replica, adapters: list[AttachedAdapter], seen: Observations) -> bool:
    """The record says ready, with every adapter, and its process still is there this very moment."""
    has_adapters = {adapter.id for adapter in adapters} <= set(replica.adapter_ids)
    return replica.state is ReplicaState.READY and has_adapters and seen.replica(replica.id).is_running


def _crash_loops(replica: Replica, policy: Policy) -> bool:
    return replica.state is ReplicaState.FAILED and replica.num_restarts >= policy.max_restarts_in_rollout


def _replicas_by_ordinal(record: DeploymentRecord, release: Release) -> dict[int, Replica]:
    """Returns one replica for each place of a release. One that is stopping keeps its place until it is gone."""
    places: dict[int, Replica] = {}
    for replica in record.deployment.replicas:
        if replica.release_id == release.id and replica.ordinal < release.num_replicas:
            places.setdefault(replica.ordinal, replica)
    return places


def _serve(release: Release, replicas: dict[int, Replica], seen: Observations, now: datetime, policy: Policy) -> list[Action]:
    """Returns what brings a wanted release's replicas up and keeps them there."""
    pull = seen.pull(release.id)
    actions: list[Action] = []
    missing = [ordinal for ordinal in range(release.num_replicas) if ordinal not in replicas]
    if pull.state is PullState.ABSENT and (missing or any(replica.state in WITHOUT_PROCESS for replica in replicas.values())):
        actions.append(PullFiles(release))
    actions += [AddReplica(release, ordinal) for ordinal in missing]
    for replica in replicas.values():
        actions += _keep_up(replica, release, _Look(seen.replica(replica.id), pull, now, policy))
    return actions


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
