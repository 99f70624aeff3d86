from __future__ import annotations

import threading
import time

import pytest

from quantry_worker.guard import Guard, Stopped, StopReason
from quantry_worker.transfers import run_guarded


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Flag:
    def __init__(self) -> None:
        self.is_up = False

    def __call__(self) -> bool:
        return self.is_up


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def draining() -> Flag:
    return Flag()


@pytest.fixture
def guard(clock: Clock, draining: Flag) -> Guard:
    return Guard(lease_s=60, since=clock.now, is_draining=draining, clock=clock)


def test_the_lease_counts_as_lost_before_it_ends(guard: Guard, clock: Clock) -> None:
    clock.now += 53.9
    assert guard.reason() is None
    clock.now += 0.2
    assert guard.reason() is StopReason.LEASE_LOST


def test_a_renewal_counts_from_when_it_was_sent(guard: Guard, clock: Clock) -> None:
    clock.now += 50
    guard.renew(lease_s=60, since=clock.now - 20)
    assert guard.remaining_s() == pytest.approx(34)


def test_a_lost_lease_stays_lost(guard: Guard, clock: Clock) -> None:
    clock.now += 60
    assert guard.reason() is StopReason.LEASE_LOST
    guard.renew(lease_s=60, since=clock.now)
    assert guard.reason() is StopReason.LEASE_LOST


def test_the_strongest_reason_is_given(guard: Guard, draining: Flag) -> None:
    draining.is_up = True
    assert guard.reason() is StopReason.DRAINING
    guard.mark(StopReason.CANCELLED)
    assert guard.reason() is StopReason.CANCELLED
    guard.mark(StopReason.STALE)
    assert guard.reason() is StopReason.STALE
    with pytest.raises(Stopped) as stopped:
        guard.check()
    assert stopped.value.reason is StopReason.STALE


def test_guarded_work_returns_and_raises_as_it_would_alone(guard: Guard) -> None:
    assert run_guarded(guard, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        run_guarded(guard, lambda: 1 // 0)


def test_guarded_work_does_not_hold_up_a_stop(guard: Guard) -> None:
    release = threading.Event()
    guard.mark(StopReason.CANCELLED)
    began = time.monotonic()
    with pytest.raises(Stopped):
        run_guarded(guard, release.wait)
    assert time.monotonic() - began < 2
    release.set()


def test_work_that_ended_together_with_the_lease_is_not_used(guard: Guard, clock: Clock) -> None:
    def outlive_the_lease() -> None:
        clock.now += 100

    with pytest.raises(Stopped):
        run_guarded(guard, outlive_the_lease)
