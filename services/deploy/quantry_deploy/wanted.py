"""Which replicas of which releases should exist, by the records alone."""

from __future__ import annotations

from dataclasses import dataclass

from quantry_core.rollouts import Deployment, Release, Replica, ReplicaState, Rollout, RolloutState
from quantry_core.strategies import AbStrategy, CanaryStrategy, ImmediateStrategy, ShadowStrategy
from quantry_deploy.rolling import RollingPlan, Side, rolling_plan, takes_turns
from quantry_store.transactions.rollouts import DeploymentRecord

WITHOUT_PROCESS = frozenset({ReplicaState.PULLING, ReplicaState.FAILED, ReplicaState.STOPPED})
"""States in which a wanted replica waits to be started, and needs the release's files for that."""


@dataclass(frozen=True)
class Wanted:
    """A release, and the places in it that should have a replica."""

    release: Release
    ordinals: frozenset[int]

    def replicas(self, record: DeploymentRecord) -> dict[int, Replica]:
        """Returns one replica for each place. One that is stopping keeps its place until it is gone."""
        places: dict[int, Replica] = {}
        for replica in record.deployment.replicas:
            if replica.release_id == self.release.id and replica.ordinal in self.ordinals:
                places.setdefault(replica.ordinal, replica)
        return places


def wanted_replicas(record: DeploymentRecord) -> list[Wanted]:
    """Returns what should have replicas: nothing of a stopped deployment; the release before the current one while a watch keeps it
    warm; the current release; and the one that a rollout brings, once that has begun. In that order."""
    deployment = record.deployment
    if deployment.is_stopped:
        return []
    warm, current, target = warm_release(record), deployment.current_release, target_release(record)
    ordinals: dict[str, frozenset[int]] = {}
    releases: dict[str, Release] = {}
    if warm is not None:
        # What is there is kept. Nothing is started for a release that may never serve again.
        releases[warm.id] = warm
        ordinals[warm.id] = frozenset(one.ordinal for one in of_release(record, warm) if one.state is not ReplicaState.STOPPING)
    if current is not None:
        releases[current.id] = current
        ordinals[current.id] = frozenset(range(num_wanted(deployment, current)))
    if target is not None and (current is None or target.id != current.id):
        releases[target.id] = target
        ordinals[target.id] = frozenset(range(target.num_replicas))
    plan = turns(record)
    if plan is not None and current is not None and target is not None:
        ordinals |= {current.id: plan.old_ordinals, target.id: plan.new_ordinals}
    return [Wanted(release, ordinals[release.id]) for release in releases.values()]


def wanted_releases(record: DeploymentRecord) -> list[Release]:
    """Returns the releases that should have replicas."""
    return [wanted.release for wanted in wanted_replicas(record)]


def kept_releases(record: DeploymentRecord) -> list[Release]:
    """Returns the releases whose files stay on this host: the wanted ones, the active rollout's target, those of replicas, and the one
    that a watch may bring back."""
    deployment = record.deployment
    ids = {release.id for release in wanted_releases(record)} | {replica.release_id for replica in deployment.replicas}
    if deployment.active_rollout is not None:
        ids.add(deployment.active_rollout.to_release_id)
    return [release for release in record.releases.values() if release.id in ids]


def needs_files(record: DeploymentRecord, wanted: Wanted) -> bool:
    """Tells whether some replica of a wanted release has yet to be started."""
    replicas = wanted.replicas(record)
    return len(replicas) < len(wanted.ordinals) or any(replica.state in WITHOUT_PROCESS for replica in replicas.values())


def of_release(record: DeploymentRecord, release: Release) -> list[Replica]:
    """Returns the replicas of a release, in whatever state."""
    return [replica for replica in record.deployment.replicas if replica.release_id == release.id]


def target_release(record: DeploymentRecord) -> Release | None:
    """Returns the release that a rollout brings which has begun and is not over."""
    rollout = record.deployment.active_rollout
    # A pending rollout's replicas begin with it; the old release goes on until the new one is promoted.
    if rollout is None or rollout.state is RolloutState.PENDING:
        return None
    return record.releases[rollout.to_release_id]


def warm_release(record: DeploymentRecord) -> Release | None:
    """Returns the release that served before the one that is being watched."""
    watched, current = record.deployment.watched_rollout, record.deployment.current_release
    if watched is None or current is None or current.id != watched.to_release_id or watched.from_release_id is None:
        return None
    return record.releases[watched.from_release_id]


def num_wanted(deployment: Deployment, current: Release) -> int:
    """Returns how many replicas the current release should have: what scaling wants, within its bounds.

    Before scaling has said anything, one that was kept warm and serves again keeps what it has: load had brought that up. A release that
    a candidate is compared with is there to be compared: it has at least one.
    """
    if current.scaling is None:
        return current.num_replicas
    standing = (one.ordinal + 1 for one in deployment.replicas if one.release_id == current.id and one.state is not ReplicaState.STOPPING)
    asked = max(current.num_replicas, *standing, 0) if deployment.num_wanted is None else deployment.num_wanted
    lowest = max(1, current.scaling.min_replicas) if _is_compared(deployment.active_rollout) else current.scaling.min_replicas
    return min(max(asked, lowest), max(1, current.scaling.max_replicas))


def turns(record: DeploymentRecord) -> RollingPlan | None:
    """Returns what should exist now of an immediate rollout whose releases take turns; None of every other."""
    rollout, current, target = record.deployment.active_rollout, record.deployment.current_release, target_release(record)
    if rollout is None or current is None or target is None or current.id == target.id:
        return None
    strategy = rollout.strategy
    if not isinstance(strategy, ImmediateStrategy):
        return None
    num_old = num_wanted(record.deployment, current)
    if not takes_turns(strategy, num_old, target.num_replicas):
        return None
    old = Side(current, num_old, of_release(record, current))
    return rolling_plan(rollout, strategy, old, Side(target, target.num_replicas, of_release(record, target)))


def _is_compared(rollout: Rollout | None) -> bool:
    is_begun = rollout is not None and rollout.state in {RolloutState.PROGRESSING, RolloutState.PAUSED}
    return is_begun and rollout is not None and isinstance(rollout.strategy, CanaryStrategy | AbStrategy | ShadowStrategy)
