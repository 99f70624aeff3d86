from __future__ import annotations

import itertools
import threading
import time

import pytest

from quantry_worker.guard import DRAINING_TIMEOUT_S, MIN_TIMEOUT_S, REQUEST_TIMEOUT_S, Bounds, Guard, Stopped, StopReason
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


def test_an_attempt_past_its_time_limit_ends_and_says_by_how_much(clock: Clock, draining: Flag) -> None:
    guard = Guard(lease_s=60, since=clock.now, is_draining=draining, bounds=Bounds(time_s=5), clock=clock)
    clock.now += 5
    assert guard.reason() is None
    clock.now += 2.5
    with pytest.raises(Stopped) as stopped:
        guard.check()
    assert stopped.value.reason is StopReason.TIMED_OUT
    assert stopped.value.words == "it took 7.5 s, longer than its limit of 5 s"


def test_an_attempt_past_its_memory_limit_ends_and_says_by_how_much(clock: Clock, draining: Flag) -> None:
    guard = Guard(lease_s=60, since=clock.now, is_draining=draining, bounds=Bounds(memory_bytes=64 * 1024**2), clock=clock)
    guard.saw_memory(64 * 1024**2)
    assert guard.reason() is None
    guard.saw_memory(96 * 1024**2)
    guard.saw_memory(10)
    with pytest.raises(Stopped) as stopped:
        guard.check()
    assert stopped.value.reason is StopReason.OUT_OF_MEMORY
    assert stopped.value.words == "it held 96 MiB of memory, more than the job's limit of 64 MiB"
    assert guard.peak_memory_bytes == 96 * 1024**2


def test_a_shutdown_gives_the_job_its_grace_once(clock: Clock, draining: Flag) -> None:
    guard = Guard(lease_s=600, since=clock.now, is_draining=draining, drain_grace_s=20, clock=clock)
    assert guard.reason() is None
    clock.now += 100
    draining.is_up = True
    assert guard.reason() is None
    clock.now += 19.9
    assert guard.reason() is None
    clock.now += 0.2
    assert guard.reason() is StopReason.DRAINING


@pytest.mark.parametrize(("stronger", "weaker"), list(itertools.pairwise(StopReason)))
def test_of_two_reasons_the_stronger_one_counts(guard: Guard, stronger: StopReason, weaker: StopReason) -> None:
    guard.mark(weaker)
    assert guard.reason() is weaker
    guard.mark(stronger)
    assert guard.reason() is stronger


def test_only_who_may_have_lost_the_job_may_not_write(clock: Clock, draining: Flag) -> None:
    for reason in StopReason:
        guard = Guard(lease_s=60, since=clock.now, is_draining=draining, clock=clock)
        guard.mark(reason)
        assert guard.may_write() is (reason not in {StopReason.STALE, StopReason.LEASE_LOST})


def test_a_request_takes_no_longer_than_the_lease_holds_nor_than_a_shutdown_waits(guard: Guard, clock: Clock, draining: Flag) -> None:
    assert guard.timeout_s() == REQUEST_TIMEOUT_S
    clock.now += 50
    assert guard.timeout_s() == pytest.approx(4)
    draining.is_up = True
    assert guard.timeout_s() == DRAINING_TIMEOUT_S
    clock.now += 100
    assert guard.timeout_s() == MIN_TIMEOUT_S


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
