"""Who is asked first."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from quantry_core.rollouts import RoutedReplica
from quantry_gateway.balancer import Balancer


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


REPLICAS = [RoutedReplica(id=name, release_id="rel_1", url=f"http://{name}") for name in ("a", "b", "c")]


def first(balancer: Balancer) -> str:
    return balancer.order(REPLICAS)[0].id


def test_idle_replicas_take_turns() -> None:
    balancer = Balancer(set_aside_s=3, clock_s=Clock())
    asked = []
    for _ in range(9):
        asked.append(first(balancer))
        with balancer.serving(asked[-1]):
            pass
    assert asked[:3] == asked[3:6] == asked[6:]
    assert Counter(asked) == {"a": 3, "b": 3, "c": 3}


def test_the_least_busy_comes_first() -> None:
    balancer = Balancer(set_aside_s=3, clock_s=Clock())
    with ExitStack() as stack:
        for name in ("a", "a", "b", "c", "c"):
            stack.enter_context(balancer.serving(name))
        assert first(balancer) == "b"
        with balancer.serving("b"), balancer.serving("b"):
            assert first(balancer) != "b"


def test_a_failed_request_is_no_longer_outstanding() -> None:
    balancer = Balancer(set_aside_s=3, clock_s=Clock())
    for name in ("a", "b", "c"):
        try:
            with balancer.serving(name):
                raise ConnectionError
        except ConnectionError:
            pass
    with balancer.serving("a"):
        assert [replica.id for replica in balancer.order(REPLICAS)] == ["b", "c", "a"]


def test_a_replica_set_aside_comes_last_for_a_while() -> None:
    clock = Clock()
    balancer = Balancer(set_aside_s=3, clock_s=clock)
    balancer.set_aside("a")
    with balancer.serving("b"), balancer.serving("c"):
        assert [replica.id for replica in balancer.order(REPLICAS)][-1] == "a"
        clock.now_s += 3.1
        assert first(balancer) == "a"


def test_when_all_are_set_aside_they_are_tried_all_the_same() -> None:
    balancer = Balancer(set_aside_s=3, clock_s=Clock())
    for name in ("a", "b", "c"):
        balancer.set_aside(name)
    assert len(balancer.order(REPLICAS)) == 3


def test_replicas_that_are_gone_are_forgotten_and_those_at_work_stay_counted() -> None:
    balancer = Balancer(set_aside_s=1e9, clock_s=Clock())
    balancer.set_aside("a")
    with balancer.serving("b"):
        balancer.keep_only(frozenset({"c"}))
        assert [replica.id for replica in balancer.order(REPLICAS)][-1] == "b"
        assert first(balancer) == "a"
    assert len(balancer.order(REPLICAS)) == 3
