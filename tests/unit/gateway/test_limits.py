"""What a key may ask in a minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.keys import KeyLimits, Role
from quantry_core.routes import RoutedKey
from quantry_gateway.key_windows import RESOLUTION_S, KeyWindows
from quantry_gateway.limits import RateLimits


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def key(key_id: str = "key_1", **limits: int) -> RoutedKey:
    return RoutedKey(key_id=key_id, key_hash=key_id, project_id="prj_1", role=Role.VIEWER, limits=KeyLimits.model_validate(limits))


def test_requests_are_admitted_up_to_the_limit_and_again_when_the_oldest_is_a_minute_old() -> None:
    clock = Clock()
    limits = RateLimits(clock_s=clock)
    limited = key(requests_per_minute=3)
    for _ in range(3):
        assert limits.admit(limited) is None
        clock.now_s += 10
    assert limits.admit(limited) == pytest.approx(30)
    assert limits.admit(key("key_2", requests_per_minute=3)) is None, "another key counts for itself"
    clock.now_s += 29.9
    assert limits.admit(limited) == pytest.approx(0.1)
    clock.now_s += 0.2
    assert limits.admit(limited) is None
    assert limits.admit(limited) == pytest.approx(9.9)


def test_a_refused_request_does_not_count() -> None:
    clock = Clock()
    limits = RateLimits(clock_s=clock)
    limited = key(requests_per_minute=1)
    assert limits.admit(limited) is None
    for _ in range(50):
        clock.now_s += 1
        assert limits.admit(limited) is not None
    clock.now_s += 10.1
    assert limits.admit(limited) is None


def test_tokens_are_spent_after_the_answer_and_what_went_beyond_is_waited_for() -> None:
    clock = Clock()
    limits = RateLimits(clock_s=clock)
    limited = key(tokens_per_minute=100)
    assert limits.admit(limited) is None
    limits.spend(limited, 40)
    clock.now_s += 20
    assert limits.admit(limited) is None
    limits.spend(limited, 300)
    assert limits.admit(limited) == pytest.approx(60), "without the first 40 there are 300 still"
    clock.now_s += 59.9
    assert limits.admit(limited) == pytest.approx(0.1)
    clock.now_s += 0.2
    assert limits.admit(limited) is None


def test_a_request_refused_for_its_tokens_is_no_request() -> None:
    clock = Clock()
    limits = RateLimits(clock_s=clock)
    limited = key(requests_per_minute=2, tokens_per_minute=10)
    limits.spend(limited, 10)
    for _ in range(5):
        assert limits.admit(limited) == pytest.approx(60)
    clock.now_s += 60.1
    assert limits.admit(limited) is None
    assert limits.admit(limited) is None
    assert limits.admit(limited) == pytest.approx(60)


def test_fields_say_what_is_left() -> None:
    limits = RateLimits(clock_s=Clock())
    limited = key(requests_per_minute=3, tokens_per_minute=100)
    limits.admit(limited)
    limits.spend(limited, 130)
    assert dict(limits.fields(limited)) == {
        b"x-ratelimit-limit-requests": b"3",
        b"x-ratelimit-remaining-requests": b"2",
        b"x-ratelimit-limit-tokens": b"100",
        b"x-ratelimit-remaining-tokens": b"0",
    }
    assert limits.fields(key()) == []


def test_a_key_without_limits_leaves_no_trace() -> None:
    limits = RateLimits(clock_s=Clock())
    for _ in range(100):
        assert limits.admit(key()) is None
        limits.spend(key(), 1000)
    assert limits._windows.reset() == 0


def test_a_busy_key_costs_no_more_memory_than_its_minute_has_moments() -> None:
    clock = Clock()
    windows = KeyWindows(clock_s=clock)
    for _ in range(100_000):
        windows.incr("busy", 60, 1_000)
        clock.now_s += 0.002
    assert windows.get("busy") == pytest.approx(30_000_000, rel=RESOLUTION_S)
    assert len(windows._used["busy"].entries) <= 60 / RESOLUTION_S + 2


def test_keys_that_are_not_used_any_more_are_forgotten() -> None:
    clock = Clock()
    windows = KeyWindows(clock_s=clock)
    windows.incr("revoked", 60)
    clock.now_s += 121
    windows.incr("alive", 60)
    assert windows.reset() == 1


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), max_size=60),
    st.integers(1, 20),
)
def test_no_minute_ever_holds_more_than_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    clock = Clock()
    windows = KeyWindows(clock_s=clock)
    used: list[tuple[float, int]] = []
    for pause_s, amount in steps:
        clock.now_s += pause_s
        counted = sum(num for at_s, num in used if at_s > clock.now_s - 60)
        kept_longer = sum(num for at_s, num in used if clock.now_s - 60 - RESOLUTION_S < at_s <= clock.now_s - 60)
        if windows.acquire_entry("k", limit, 60, amount):
            used.append((clock.now_s, amount))
            assert counted + amount <= limit
        else:
            assert counted + kept_longer + amount > limit
        assert sum(num for at_s, num in used if at_s > clock.now_s - 60) <= windows.get("k") <= limit
        assert (windows.wait_s("k", limit, 60) == 0) == (windows.get("k") < limit)
