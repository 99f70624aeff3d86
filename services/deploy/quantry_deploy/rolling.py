"""Replicas of a new release taking the places of the old one's, some at a time: how many of each should exist now, and their share.

Where a rollout may hold all of both at once, that is what it does: the new ones come up without traffic, and all of it moves when the
rollout is promoted. Only where it may not do they take turns, and then traffic follows the ready replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantry_core.rollouts import Release, Replica, ReplicaState, Rollout, RolloutState
from quantry_core.strategies import WHOLE_PERCENT, ImmediateStrategy


@dataclass(frozen=True)
class RollingPlan:
    """What should exist now."""

    old_ordinals: frozenset[int]
    new_ordinals: frozenset[int]
    percent: int
    """The new release's share: its part of the ready replicas."""


@dataclass(frozen=True)
class Side:
    """One of the two releases, with the replicas of it that there are."""

    release: Release
    num_wanted: int
    """Of it alone, without the other."""
    replicas: Sequence[Replica]

    @property
    def standing(self) -> list[Replica]:
        """Those that nobody has asked to end, the ready ones first."""
        standing = [replica for replica in self.replicas if replica.state is not ReplicaState.STOPPING]
        return sorted(standing, key=lambda replica: (replica.state is not ReplicaState.READY, replica.ordinal))

    @property
    def num_ready(self) -> int:
        return sum(replica.state is ReplicaState.READY for replica in self.replicas)


def takes_turns(strategy: ImmediateStrategy, num_old: int, num_new: int) -> bool:
    """Tells whether the surge is too small for all of both releases at once."""
    return strategy.max_surge < min(num_old, num_new)


def rolling_plan(rollout: Rollout, strategy: ImmediateStrategy, old: Side, new: Side) -> RollingPlan:
    """Returns what should exist now of a rollout that takes turns; a paused one stays as it is.

    At most ``max_surge`` more than the larger of both numbers exist, and of the smaller of both at most ``max_unavailable`` are not ready.
    """
    percent = round(WHOLE_PERCENT * new.num_ready / max(1, old.num_ready + new.num_ready))
    if rollout.state is RolloutState.PAUSED:
        return RollingPlan(_ordinals(old.standing), _ordinals(new.standing), percent)
    most = max(old.num_wanted, new.num_wanted) + strategy.max_surge
    num_ready_needed = max(0, min(old.num_wanted, new.num_wanted) - strategy.max_unavailable - new.num_ready)
    num_old = max(num_ready_needed, most - new.num_wanted)
    # One that is not ready serves nobody: it goes first.
    kept = old.standing[:num_old]
    there = [replica for replica in new.standing if replica.ordinal < new.num_wanted]
    free = [ordinal for ordinal in range(new.num_wanted) if ordinal not in _ordinals(new.replicas)]
    num_added = max(0, most - len(old.replicas) - len(new.replicas))
    return RollingPlan(_ordinals(kept), _ordinals(there) | frozenset(free[:num_added]), percent)


def _ordinals(replicas: Sequence[Replica]) -> frozenset[int]:
    return frozenset(replica.ordinal for replica in replicas)
