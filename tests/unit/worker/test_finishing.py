from __future__ import annotations

import pytest

from factories.fake_control import FakeControl
from quantry_core.errors import InvalidInput, SealRefused, StaleAttempt, Unavailable
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import JobReason
from quantry_worker.finishing import deliver
from quantry_worker.guard import Guard, StopReason

SUCCESS = FinishRequest(attempt=1, outcome=Outcome.SUCCEEDED, reason=JobReason.COMPLETED, seconds=3.5)
FAILURE = FinishRequest(attempt=1, outcome=Outcome.FAILED, reason=JobReason.INTERNAL, message="broke")


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.is_draining = False
        self.control = FakeControl()
        self.guard = Guard(lease_s=60, since=0, is_draining=lambda: self.is_draining, clock=lambda: self.now)

    def deliver(self, request: FinishRequest) -> bool:
        return deliver(self.control, "job_1", request, self.guard, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_tried_again_while_the_control_plane_is_away(world: World) -> None:
    world.control.troubles["finish"] = [Unavailable("away")] * 20
    assert world.deliver(SUCCESS)
    assert world.control.finishes == [SUCCESS]


def test_it_is_given_up_when_the_lease_is_over(world: World) -> None:
    world.control.troubles["finish"] = [Unavailable("away")] * 1000
    assert not world.deliver(SUCCESS)
    assert 53 < world.now < 56


def test_a_stale_attempt_writes_nothing_more(world: World) -> None:
    world.control.troubles["finish"] = [StaleAttempt("not yours")]
    assert not world.deliver(SUCCESS)
    assert world.control.finishes == []


def test_a_lost_lease_sends_nothing(world: World) -> None:
    world.guard.mark(StopReason.LEASE_LOST)
    assert not world.deliver(SUCCESS)
    assert world.control.finishes == []


def test_a_refused_result_becomes_a_failed_attempt_that_says_why(world: World) -> None:
    world.control.troubles["finish"] = [SealRefused("config.json is not in the vault")]
    assert world.deliver(SUCCESS)
    (finish,) = world.control.finishes
    assert (finish.outcome, finish.reason, finish.version, finish.seconds) == (Outcome.FAILED, JobReason.INTERNAL, None, 3.5)
    assert "config.json is not in the vault" in (finish.message or "")


def test_a_failure_that_is_refused_too_is_given_up(world: World) -> None:
    world.control.troubles["finish"] = [InvalidInput("no"), InvalidInput("no")]
    assert not world.deliver(SUCCESS)
    world.control.troubles["finish"] = [InvalidInput("no")]
    assert not world.deliver(FAILURE)
    assert world.control.finishes == []


def test_a_worker_that_shuts_down_does_not_wait_for_long(world: World) -> None:
    world.is_draining = True
    world.control.troubles["finish"] = [Unavailable("away")] * 1000
    assert not world.deliver(SUCCESS)
    assert 1 < world.now < 5


def test_a_worker_that_shuts_down_tries_at_least_once(world: World) -> None:
    world.is_draining = True
    assert world.deliver(SUCCESS)


@pytest.mark.parametrize("reason", [StopReason.TIMED_OUT, StopReason.OUT_OF_MEMORY, StopReason.CANCELLED])
def test_the_end_of_a_stopped_attempt_is_told_as_long_as_its_lease_holds(world: World, reason: StopReason) -> None:
    world.guard.mark(reason)
    world.control.troubles["finish"] = [Unavailable("away")] * 20
    assert world.deliver(FAILURE)
