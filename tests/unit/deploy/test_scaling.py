"""How many replicas are wanted: by load, with patience, down to none and up again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.rollout_records import NOW, ago, record, release, replica, rollout
from quantry_core.jobs import Scaling
from quantry_core.rollouts import Deployment, Release, ReplicaState
from quantry_core.strategies import AbStrategy, BlueGreenStrategy, CanaryStrategy, ImmediateStrategy, ShadowStrategy, Strategy
from quantry_deploy.actions import AddReplica, SetReplica, SetWanted
from quantry_deploy.decide import decide
from quantry_deploy.observations import Observations, PullState, PullStatus, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_deploy.scaling import Needs, is_idle, num_needed, ready_looks, scaled
from quantry_deploy.wanted import num_wanted

SCALING = Scaling(min_replicas=1, max_replicas=4, target_waiting=2, target_kv_use=0.8, scale_down_after_s=300)
TO_ZERO = SCALING.model_copy(update={"min_replicas": 0, "idle_after_s": 900.0})


def busy(waiting: float | None = 0, kv_use: float | None = 0.0, running: float | None = 0) -> ReplicaObservation:
    return ReplicaObservation(is_running=True, answers=True, is_proven=True, num_waiting=waiting, kv_use=kv_use, num_running=running)


def served(scaling: Scaling = SCALING) -> Release:
    return release("rel_now", scaling=scaling)


def deployed(scaling: Scaling = SCALING, *, num_ready: int = 1, age_s: float = 5000, **changes: Any) -> Deployment:
    replicas = [replica(ReplicaState.READY, "rel_now", ordinal=ordinal, age_s=age_s) for ordinal in range(num_ready)]
    return record(*replicas, current=served(scaling), **changes).deployment


@pytest.mark.parametrize(
    ("looks", "needed"),
    [
        ([busy()], 0),
        ([busy(running=1)], 1),
        ([busy(waiting=2)], 1),
        ([busy(waiting=3)], 2),
        ([busy(waiting=3), busy(waiting=4)], 4),
        ([busy(kv_use=0.81)], 2),
        ([busy(kv_use=0.8)], 1),
        ([busy(kv_use=0.9), busy(kv_use=0.9), busy(kv_use=0.5)], 3),
        # Those that say nothing are taken for the average of the others.
        ([busy(waiting=4), ReplicaObservation(is_running=True)], 4),
        ([busy(waiting=None, kv_use=None, running=None)], None),
        ([], None),
    ],
)
def test_the_replicas_that_a_load_is_right_for(looks: list[ReplicaObservation], needed: int | None) -> None:
    assert num_needed(SCALING, looks) == needed


def test_more_are_wanted_at_once_and_never_beyond_the_bounds() -> None:
    assert scaled(deployed(num_wanted=1), served(), [busy(waiting=5)], Needs(), NOW)[0] == 3
    assert scaled(deployed(num_wanted=1), served(), [busy(waiting=500)], Needs(), NOW)[0] == 4
    assert scaled(deployed(num_wanted=9), served(), [busy()], Needs(), NOW)[0] == 4


class Clock:
    """A deployment that is looked at again and again, and does what scaling says."""

    def __init__(self, num_now: int, scaling: Scaling = SCALING) -> None:
        self.scaling = scaling
        self.num = num_now
        self.needs = Needs()
        self.now: datetime = NOW

    def look(self, waiting: float | None, *, after_s: float = 1, **changes: Any) -> int:
        self.now += timedelta(seconds=after_s)
        deployment = deployed(self.scaling, num_ready=self.num, num_wanted=self.num, **changes)
        looks = [] if waiting is None else [busy(waiting=waiting / max(1, self.num), running=1)] * self.num
        self.num, self.needs = scaled(deployment, served(self.scaling), looks, self.needs, self.now)
        return self.num


def test_fewer_are_wanted_only_when_fewer_have_sufficed_for_a_while() -> None:
    clock = Clock(4)
    assert clock.look(8) == 4
    assert [clock.look(1, after_s=100) for _ in range(3)] == [4, 4, 4]
    # 300 s ago four were needed for the last time.
    assert clock.look(1, after_s=1) == 1


def test_a_peak_in_between_starts_the_wait_again() -> None:
    clock = Clock(4)
    clock.look(1)
    assert clock.look(5, after_s=200) == 4
    # For the last 300 s three were the most that was needed.
    assert clock.look(1, after_s=299) == 3
    assert clock.look(1, after_s=2) == 1


def test_it_comes_down_to_what_was_needed_at_most() -> None:
    clock = Clock(4)
    for waiting in (8, 6, 1):
        clock.look(waiting, after_s=100)
    assert clock.look(1, after_s=199) == 3
    assert clock.look(1, after_s=2) == 1


def test_a_controller_that_begins_anew_waits_first() -> None:
    clock = Clock(4)
    assert clock.look(1, after_s=10_000) == 4
    assert clock.look(1, after_s=299) == 4
    assert clock.look(1, after_s=1) == 1


def test_a_controller_that_could_not_look_for_long_waits_first() -> None:
    clock = Clock(4)
    clock.look(8)
    # The database was away: who asked meanwhile, nobody knows.
    assert clock.look(1, after_s=301) == 4
    assert clock.look(1, after_s=299) == 4
    assert clock.look(1, after_s=1) == 1


def test_engines_that_say_nothing_leave_the_number_as_it_is() -> None:
    clock = Clock(3)
    assert [clock.look(None, after_s=200) for _ in range(5)] == [3] * 5


@pytest.mark.parametrize(
    ("requested_s", "demanded_s", "came_up_s", "idle"),
    [(None, None, 899, False), (None, None, 901, True), (899, None, 5000, False), (901, 899, 5000, False), (901, 901, 901, True)],
)
def test_idle_is_nobody_having_asked_for_long(requested_s: float | None, demanded_s: float | None, came_up_s: float, *, idle: bool) -> None:
    asked: dict[str, Any] = {
        "requested_at": None if requested_s is None else ago(requested_s),
        "demanded_at": None if demanded_s is None else ago(demanded_s),
    }
    deployment = deployed(TO_ZERO, age_s=came_up_s, **asked)
    assert is_idle(deployment, served(TO_ZERO), [busy()], NOW) is idle
    assert scaled(deployment, served(TO_ZERO), [busy()], Needs(), NOW)[0] == (0 if idle else 1)


def test_what_is_under_way_is_not_cut_off() -> None:
    deployment = deployed(TO_ZERO, requested_at=ago(5000))
    assert not is_idle(deployment, served(TO_ZERO), [busy(running=1)], NOW)
    assert not is_idle(deployment, served(TO_ZERO), [busy(waiting=1)], NOW)


def test_a_release_that_must_have_one_keeps_it_though_idle() -> None:
    assert scaled(deployed(requested_at=ago(90_000)), served(), [busy()], Needs(), NOW)[0] == 1


def test_a_request_that_waits_wakes_it_and_one_answered_long_ago_does_not() -> None:
    def wanted(**changes: Any) -> int:
        return scaled(deployed(TO_ZERO, num_ready=0, num_wanted=0, **changes), served(TO_ZERO), [], Needs(), NOW)[0]

    assert wanted(requested_at=ago(1000)) == 0
    assert wanted(requested_at=ago(1000), demanded_at=ago(1)) == 1
    # It gave up, and nobody came since.
    assert wanted(requested_at=ago(2000), demanded_at=ago(901)) == 0


def test_replicas_that_end_do_not_keep_it_up() -> None:
    going = replica(ReplicaState.STOPPING, "rel_now", age_s=1)
    deployment = record(going, current=served(TO_ZERO), num_wanted=0).deployment
    assert scaled(deployment, served(TO_ZERO), [], Needs(), NOW)[0] == 0


@pytest.mark.parametrize(
    ("strategy", "lowest"),
    [(CanaryStrategy(), 1), (AbStrategy(), 1), (ShadowStrategy(), 1), (ImmediateStrategy(), 0), (BlueGreenStrategy(), 0)],
)
def test_a_release_that_is_compared_with_is_there(strategy: Strategy, lowest: int) -> None:
    active = rollout(strategy=strategy, from_release_id="rel_now")
    deployment = record(current=served(TO_ZERO), target=release(), active=active, num_wanted=0).deployment
    assert num_wanted(deployment, served(TO_ZERO)) == lowest


def look(asked: int | None, kept: int | None, *, num: int = 1, scaling: Scaling | None = SCALING) -> list[object]:
    one = release("rel_now", scaling=scaling)
    replicas = [replica(ReplicaState.READY, "rel_now", ordinal=ordinal) for ordinal in range(num)]
    seen = Observations(replicas={each.id: busy() for each in replicas}, pulls={"rel_now": PullStatus(PullState.DONE)}, num_wanted=asked)
    return list(decide(record(*replicas, current=one, num_wanted=kept), seen, NOW, Policy(resumed_at=ago(50))))


def test_a_change_is_written_down_first_and_followed_in_the_next_pass() -> None:
    assert look(2, 1) == [SetWanted("dep_1", 2)]
    assert look(2, 2) == [AddReplica(release("rel_now", scaling=SCALING), 1)]
    assert look(1, 2, num=2) == [SetWanted("dep_1", 1)]
    # Drained before it goes.
    (drain,) = look(1, 1, num=2)
    assert isinstance(drain, SetReplica)
    assert (drain.replica.ordinal, drain.state, drain.message) == (1, ReplicaState.STOPPING, "draining")


def test_a_number_that_nobody_scales_is_forgotten() -> None:
    assert look(None, 3, scaling=None) == [SetWanted("dep_1", None)]
    assert look(None, 1) == []


def test_a_release_that_serves_again_keeps_the_replicas_that_load_had_brought_up() -> None:
    # After a rollback nothing is known yet of what is wanted; three are warm, and one is what the release says.
    assert look(3, None, num=3) == [SetWanted("dep_1", 3)]
    warm = deployed(num_ready=3, num_wanted=None)
    assert num_wanted(warm, served()) == 3
    assert scaled(warm, served(), [busy()] * 3, Needs(), NOW)[0] == 3
    assert num_wanted(deployed(num_ready=9, num_wanted=None), served()) == 4
    going = replica(ReplicaState.STOPPING, "rel_now", ordinal=2)
    assert num_wanted(record(going, current=served()).deployment, served()) == 1
    # A number that scaling has said holds.
    assert num_wanted(deployed(num_ready=3, num_wanted=1), served()) == 1


def test_only_ready_replicas_are_listened_to() -> None:
    replicas = [replica(ReplicaState.READY, ordinal=0), replica(ReplicaState.UNHEALTHY, ordinal=1)]
    looks = {replicas[0].id: busy(waiting=1), replicas[1].id: busy(waiting=100)}
    assert ready_looks(replicas, looks) == [busy(waiting=1)]


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 60)), max_size=80), st.integers(0, 4))
def test_any_load_stays_within_the_bounds_and_no_replica_goes_that_was_needed_of_late(loads: list[tuple[int, float]], lowest: int) -> None:
    scaling = SCALING.model_copy(update={"min_replicas": min(lowest, 4)})
    clock = Clock(max(1, lowest), scaling)
    needs: list[tuple[datetime, int]] = []
    for waiting, after_s in loads:
        before = clock.num
        after = clock.look(waiting, after_s=after_s, requested_at=clock.now)
        needed = min(max(-(-waiting // 2), 1, scaling.min_replicas), scaling.max_replicas)
        needs.append((clock.now, needed))
        assert scaling.min_replicas <= after <= scaling.max_replicas
        if after < before:
            assert after >= max(num for at, num in needs if clock.now - at <= timedelta(seconds=300))
        assert after >= needed
