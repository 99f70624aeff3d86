"""Who is asked."""

from __future__ import annotations

from collections import Counter

import pytest

from quantry_core.routes import RoutedReplica
from quantry_gateway.balancer import Balancer, Turn
from quantry_gateway.ejection import Ejection


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


REPLICAS = [RoutedReplica(id=name, release_id="rel_1", url=f"http://{name}", max_requests=3) for name in ("a", "b", "c")]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def balancer(clock: Clock) -> Balancer:
    return Balancer(Ejection(after=2, first_s=1.0, longest_s=8.0, clock_s=clock))


def take(balancer: Balancer, *besides: str) -> Turn:
    turn = balancer.take(REPLICAS, besides)
    assert turn is not None
    return turn


def test_idle_replicas_take_turns(balancer: Balancer) -> None:
    asked = []
    for _ in range(9):
        turn = take(balancer)
        asked.append(turn.replica.id)
        balancer.give_back(turn)
    assert asked[:3] == asked[3:6] == asked[6:]
    assert Counter(asked) == {"a": 3, "b": 3, "c": 3}


def test_the_least_busy_is_asked(balancer: Balancer) -> None:
    turns = {take(balancer).replica.id: None for _ in range(3)}
    assert set(turns) == {"a", "b", "c"}
    first = take(balancer, "b", "c")
    second = take(balancer, "a", "b")
    assert (first.replica.id, second.replica.id) == ("a", "c")
    assert take(balancer).replica.id == "b"
    balancer.give_back(first)
    balancer.give_back(second)
    assert [balancer.num_outstanding(name) for name in ("a", "b", "c")] == [1, 2, 1]


def test_one_that_has_all_it_may_have_is_passed_over(balancer: Balancer) -> None:
    turns = [take(balancer) for _ in range(9)]
    assert Counter(turn.replica.id for turn in turns) == {"a": 3, "b": 3, "c": 3}
    assert balancer.take(REPLICAS) is None
    assert balancer.is_usable(REPLICAS)
    balancer.give_back(turns[4])
    assert take(balancer).replica is turns[4].replica


def test_one_that_was_tried_is_passed_over(balancer: Balancer) -> None:
    assert {take(balancer, "a", "c").replica.id for _ in range(3)} == {"b"}
    assert balancer.take(REPLICAS, ("a", "b", "c")) is None
    assert not balancer.is_usable(REPLICAS, ("a", "b", "c"))


def test_one_that_is_ejected_comes_back_by_a_trial(balancer: Balancer, clock: Clock) -> None:
    assert balancer.failed(take(balancer, "b", "c"), at_once=True)
    assert {take(balancer).replica.id for _ in range(6)} == {"b", "c"}
    assert not balancer.is_usable(REPLICAS[:1])
    clock.now_s += 1.1
    trial = take(balancer)
    assert (trial.replica.id, trial.on_trial) == ("a", True)
    assert balancer.take(REPLICAS[:1]) is None
    balancer.succeeded(trial)
    balancer.give_back(trial)
    assert not take(balancer, "b", "c").on_trial


def test_a_trial_that_its_client_gave_up_is_made_again(balancer: Balancer, clock: Clock) -> None:
    refused = take(balancer, "b", "c")
    balancer.failed(refused, at_once=True)
    balancer.give_back(refused)
    clock.now_s += 1.1
    for _ in range(2):
        trial = take(balancer, "b", "c")
        assert trial.on_trial
        balancer.give_back(trial)


def test_replicas_that_are_gone_are_forgotten_and_those_at_work_stay_counted(balancer: Balancer) -> None:
    balancer.failed(take(balancer, "b", "c"), at_once=True)
    turn = take(balancer, "a", "c")
    balancer.keep_only(frozenset({"c"}))
    assert balancer.is_usable(REPLICAS[:1])
    assert balancer.num_outstanding("b") == 1
    balancer.give_back(turn)
    assert balancer.num_outstanding("b") == 0
