from __future__ import annotations

import time

import pytest

from factories.control_plane import lease_of, running_job
from factories.fake_control import FakeControl
from quantry_core.errors import QuantryError, StaleAttempt, Unavailable
from quantry_worker.guard import POLL_S, Guard, StopReason
from quantry_worker.heartbeat import RETRY_S, Heartbeat
from quantry_worker.settings import WorkerSettings

GRACE_S: float = WorkerSettings.model_fields["cancel_grace_s"].default


class World:
    """A heartbeat whose time the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.control = FakeControl()
        self.guard = Guard(lease_s=60, since=self.now, is_draining=lambda: False, clock=lambda: self.now)
        self.heartbeat = Heartbeat(self.control, "job_1", 3, self.guard, interval_s=10, clock=lambda: self.now)

    def move(self, seconds: float) -> int:
        """Lets time pass in steps of 1/8 s as the thread would look; returns the number of beats that were sent."""
        before = len(self.control.heartbeats)
        for _ in range(round(seconds * 8)):
            self.now += 0.125
            self.heartbeat.beat_if_due()
        return len(self.control.heartbeats) - before


@pytest.fixture
def world() -> World:
    return World()


def test_it_beats_once_per_interval(world: World) -> None:
    assert world.move(9.5) == 0
    assert world.move(1) == 1
    assert world.move(100) == 10
    assert {request.attempt for request in world.control.heartbeats} == {3}
    assert world.guard.reason() is None


def test_the_lease_counts_from_before_the_request(world: World) -> None:
    def take_five_seconds() -> None:
        world.now += 5

    world.control.on_heartbeat = take_five_seconds
    world.now += 10
    world.heartbeat.beat_if_due()
    assert world.guard.remaining_s() == pytest.approx(54 - 5)


def test_while_the_control_plane_is_away_it_tries_every_second_until_the_lease_is_lost(world: World) -> None:
    world.control.troubles["heartbeat"] = [Unavailable("away")] * 1000
    world.move(53)
    assert world.guard.reason() is None
    num_tries = 1000 - len(world.control.troubles["heartbeat"])
    assert 43 / RETRY_S - 10 < num_tries <= 44 / RETRY_S
    world.move(2)
    assert world.guard.reason() is StopReason.LEASE_LOST


def test_it_recovers(world: World) -> None:
    world.control.troubles["heartbeat"] = [Unavailable("away"), QuantryError("odd")]
    assert world.move(13) == 1
    world.move(30)
    assert world.guard.reason() is None


def test_a_stale_answer_ends_the_attempt(world: World) -> None:
    world.control.troubles["heartbeat"] = [StaleAttempt("not yours")]
    world.move(10.5)
    assert world.guard.reason() is StopReason.STALE


def test_a_cancel_request_is_heard(world: World) -> None:
    world.control.cancel_requested = True
    world.move(10.5)
    assert world.guard.reason() is StopReason.CANCELLED


def test_a_cancel_is_heard_and_done_within_ten_seconds_in_the_worst_case() -> None:
    lease = lease_of(running_job())
    assert lease.heartbeat_s + 2 * POLL_S + GRACE_S < 10


def test_a_process_that_slept_past_its_lease_does_not_beat(world: World) -> None:
    world.now += 3600
    world.heartbeat.beat_if_due()
    assert world.control.heartbeats == []
    assert world.guard.reason() is StopReason.LEASE_LOST


def test_the_thread_beats_and_ends() -> None:
    control = FakeControl()
    guard = Guard(lease_s=60, since=1e12, is_draining=lambda: False)
    heartbeat = Heartbeat(control, "job_1", 1, guard, interval_s=0.02)
    with heartbeat:
        give_up_at = time.monotonic() + 5
        while len(control.heartbeats) < 2:
            assert time.monotonic() < give_up_at
            time.sleep(0.005)
    heartbeat._thread.join(5)
    assert not heartbeat._thread.is_alive()
