"""Releases that take turns: how many replicas of each exist, and who gets what share."""

from __future__ import annotations

from typing import Any

import pytest

from factories.rollout_records import ago, record, release, replica, rollout
from quantry_core.rollouts import Replica, ReplicaState, Rollout, RolloutState
from quantry_core.strategies import ImmediateStrategy
from quantry_deploy.actions import AddReplica, EndRollout, PromoteRollout, RolloutMove, SetReplica, StageRollout
from quantry_deploy.decide import decide
from quantry_deploy.observations import Observations, PullState, PullStatus, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_deploy.rolling import takes_turns
from quantry_deploy.wanted import turns, wanted_replicas
from quantry_store.transactions.rollouts import DeploymentRecord

NOW = ago(0)
POLICY = Policy(resumed_at=ago(5000), drain_s=0.0)
ANSWERS = ReplicaObservation(is_running=True, answers=True, is_proven=True)
READY = ReplicaState.READY


def old(*states: ReplicaState) -> list[Replica]:
    return [replica(state, "rel_old", ordinal=ordinal) for ordinal, state in enumerate(states)]


def new(*states: ReplicaState) -> list[Replica]:
    return [replica(state, "rel_new", ordinal=ordinal) for ordinal, state in enumerate(states)]


def moving(replicas: list[Replica], strategy: ImmediateStrategy, num: int, num_new: int | None = None, **changes: Any) -> DeploymentRecord:
    active = rollout(strategy=strategy, from_release_id="rel_old", **changes)
    target = release("rel_new", num_replicas=num if num_new is None else num_new)
    return record(*replicas, current=release("rel_old", num_replicas=num), target=target, active=active)


def counts(moving: DeploymentRecord) -> tuple[int, int]:
    """Returns how many replicas should exist of old and new."""
    wanted = {one.release.id: len(one.ordinals) for one in wanted_replicas(moving)}
    return wanted["rel_old"], wanted["rel_new"]


@pytest.mark.parametrize(
    ("max_surge", "num_old", "num_new", "expected"),
    [(16, 4, 4, False), (4, 4, 4, False), (3, 4, 4, True), (1, 1, 8, False), (0, 1, 1, True)],
)
def test_releases_take_turns_only_where_both_do_not_fit(max_surge: int, num_old: int, num_new: int, *, expected: bool) -> None:
    assert takes_turns(ImmediateStrategy(max_surge=max_surge, max_unavailable=1), num_old, num_new) is expected


def test_with_room_for_both_all_of_the_new_come_up_without_a_share() -> None:
    both = moving([*old(READY, READY), *new(READY, ReplicaState.STARTING)], ImmediateStrategy(), 2)
    assert turns(both) is None
    assert counts(both) == (2, 2)


@pytest.mark.parametrize(
    ("there", "expected", "percent"),
    [
        (old(READY, READY, READY), (3, 1), 0),
        ([*old(READY, READY, READY), *new(ReplicaState.STARTING)], (3, 1), 0),
        ([*old(READY, READY, READY), *new(READY)], (2, 1), 25),
        # One that is stopping still takes its place.
        ([*old(READY, READY, ReplicaState.STOPPING), *new(READY)], (2, 1), 33),
        ([*old(READY, READY), *new(READY)], (2, 2), 33),
        ([*old(READY, READY), *new(READY, READY)], (1, 2), 50),
        ([*old(READY), *new(READY, READY, READY)], (1, 3), 75),
    ],
)
def test_one_surge_replaces_one_at_a_time(there: list[Replica], expected: tuple[int, int], percent: int) -> None:
    state = moving(there, ImmediateStrategy(max_surge=1), 3)
    plan = turns(state)
    assert plan is not None
    assert (counts(state), plan.percent) == (expected, percent)


def test_without_a_surge_one_goes_before_one_comes() -> None:
    strategy = ImmediateStrategy(max_surge=0, max_unavailable=1)
    assert counts(moving(old(READY, READY), strategy, 2)) == (1, 0)
    assert counts(moving(old(READY), strategy, 2)) == (1, 1)
    assert counts(moving([*old(READY), *new(READY)], strategy, 2)) == (0, 1)
    assert counts(moving(new(READY), strategy, 2)) == (0, 2)


def test_an_old_replica_that_is_not_ready_goes_first() -> None:
    state = moving(old(ReplicaState.FAILED, READY), ImmediateStrategy(max_surge=0, max_unavailable=1), 2)
    (kept,) = [one.ordinals for one in wanted_replicas(state) if one.release.id == "rel_old"]
    assert kept == {1}


def test_a_paused_one_stays_as_it_is() -> None:
    there = [*old(READY, READY), *new(READY)]
    assert counts(moving(there, ImmediateStrategy(max_surge=1), 2, state=RolloutState.PAUSED)) == (2, 1)


class World:
    """Carries out what decide says of a rolling rollout, as quickly as everything can go."""

    def __init__(self, num_old: int, num_new: int, strategy: ImmediateStrategy) -> None:
        self.replicas = old(*[READY] * num_old)
        self.strategy = strategy
        self.num_old, self.num_new = num_old, num_new
        self.percent = 0
        self.is_promoted = False
        self.most = num_old
        self.fewest_ready = num_old

    def step(self) -> None:
        exposed_at = ago(1) if self.percent else None
        state = moving(
            self.replicas, self.strategy, self.num_old, self.num_new, percent=self.percent, staged_at=exposed_at, exposed_at=exposed_at
        )
        seen = Observations(
            replicas={one.id: ANSWERS for one in self.replicas}, pulls=dict.fromkeys(["rel_new", "rel_old"], PullStatus(PullState.DONE))
        )
        for action in decide(state, seen, NOW, POLICY):
            match action:
                case StageRollout(percent=percent):
                    self.percent = percent
                case PromoteRollout():
                    self.is_promoted = True
                case EndRollout():
                    pytest.fail(f"rolled back: {action.message}")
                case AddReplica(release=added, ordinal=ordinal):
                    self.replicas.append(replica(ReplicaState.STARTING, added.id, ordinal=ordinal))
                case SetReplica(replica=changed, state=after):
                    self.replicas = [one if one.id != changed.id else one.model_copy(update={"state": after}) for one in self.replicas]
                case _:
                    assert not isinstance(action, RolloutMove)
        self.most = max(self.most, len(self.replicas))
        self.fewest_ready = min(self.fewest_ready, sum(one.state is READY for one in self.replicas))
        self.replicas = [one for one in self.replicas if one.state is not ReplicaState.STOPPING]


@pytest.mark.parametrize("max_surge", range(5))
@pytest.mark.parametrize("max_unavailable", range(5))
@pytest.mark.parametrize(("num_old", "num_new"), [(1, 1), (2, 2), (4, 4), (1, 4), (4, 1), (3, 5)])
def test_it_always_ends_within_its_limits(max_surge: int, max_unavailable: int, num_old: int, num_new: int) -> None:
    if not max_surge and not max_unavailable:
        return
    world = World(num_old, num_new, ImmediateStrategy(max_surge=max_surge, max_unavailable=max_unavailable))
    is_turning = takes_turns(world.strategy, num_old, num_new)
    for _ in range(60):
        world.step()
        if world.is_promoted:
            break
    assert world.is_promoted
    assert sum(one.release_id == "rel_new" and one.state is READY for one in world.replicas) == num_new
    if is_turning:
        assert world.most <= max(num_old, num_new) + max_surge
        assert world.fewest_ready >= max(0, min(num_old, num_new) - max_unavailable)


def test_what_rolls_back_in_the_middle_gives_the_old_release_its_places_again() -> None:
    after = record(*old(READY), *new(READY), current=release("rel_old", num_replicas=2), target=release("rel_new", num_replicas=2))
    (wanted,) = wanted_replicas(after)
    assert (wanted.release.id, wanted.ordinals) == ("rel_old", frozenset({0, 1}))


def test_a_rolling_rollout_is_held_to_its_deadline_though_it_has_a_share() -> None:
    late: Rollout = rollout(
        strategy=ImmediateStrategy(max_surge=1),
        from_release_id="rel_old",
        percent=33,
        staged_at=ago(60),
        exposed_at=ago(60),
        created_at=ago(601),
        ready_deadline_at=ago(1),
    )
    there = [*old(READY, READY), *new(READY)]
    state = record(*there, current=release("rel_old", num_replicas=2), target=release("rel_new", num_replicas=2), active=late)
    (end,) = decide(state, Observations(replicas={one.id: ANSWERS for one in there}), NOW, POLICY)
    assert isinstance(end, EndRollout)
