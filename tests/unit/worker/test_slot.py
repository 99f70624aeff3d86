from __future__ import annotations

import os
import signal
import time

import pytest
import stamina

from factories.control_plane import lease_of, running_job
from factories.fake_control import FakeControl
from quantry_core.errors import Unauthorized, Unavailable
from quantry_core.jobs import CPU_QUEUE
from quantry_core.methods import Environment
from quantry_worker.drain import Drain
from quantry_worker.slot import Slot, draining_on_signals
from quantry_worker.supervisor import Claim

WORKER_ID = "wrk_" + "0" * 32
DIGEST = "a" * 64


class Runner:
    """In place of the supervisor: notes the claims."""

    def __init__(self, drain: Drain) -> None:
        self.claims: list[Claim] = []
        self._drain = drain
        self.drains_at = -1

    def run(self, claim: Claim) -> None:
        self.claims.append(claim)
        if len(self.claims) == self.drains_at:
            self._drain.request()


class World:
    def __init__(self) -> None:
        self.control = FakeControl()
        self.drain = Drain()
        self.runner = Runner(self.drain)
        self.slot = Slot(
            self.control,
            self.runner,
            self.drain.is_requested,
            worker_id=WORKER_ID,
            environments={Environment.ML: DIGEST},
            clock=lambda: 17.0,
        )
        self.control.leases = [lease_of(running_job()) for _ in range(3)]

    def serve(self) -> int:
        with stamina.set_testing(True, attempts=3):
            return self.slot.serve(CPU_QUEUE)


@pytest.fixture
def world() -> World:
    return World()


def test_it_works_until_the_queue_is_empty(world: World) -> None:
    assert world.serve() == 3
    assert len(world.control.claims) == 4
    assert {claim.since for claim in world.runner.claims} == {17.0}
    request = world.control.claims[0]
    assert (request.queue, request.worker_id, request.environments) == (CPU_QUEUE, WORKER_ID, {Environment.ML: DIGEST})


def test_it_takes_no_further_job_once_the_worker_shuts_down(world: World) -> None:
    world.runner.drains_at = 2
    assert world.serve() == 2
    assert len(world.control.leases) == 1


def test_a_control_plane_that_is_away_for_a_moment_is_asked_again(world: World) -> None:
    world.control.troubles["next"] = [Unavailable("away"), Unavailable("away")]
    assert world.serve() == 3


def test_a_control_plane_that_stays_away_ends_this_wake(world: World) -> None:
    world.control.troubles["next"] = [Unavailable("away")] * 99
    with pytest.raises(Unavailable):
        world.serve()


def test_a_refused_token_is_not_tried_again(world: World) -> None:
    world.control.troubles["next"] = [Unauthorized("no")]
    with pytest.raises(Unauthorized):
        world.serve()
    assert len(world.control.leases) == 3


def test_the_drain_flag_is_seen_by_forks_and_stays_up() -> None:
    drain = Drain()
    assert not drain.is_requested()
    pid = os.fork()
    if pid == 0:
        drain.request()
        os._exit(0)
    os.waitpid(pid, 0)
    assert drain.is_requested()
    assert drain.is_requested()


def test_the_drain_flag_can_be_raised_any_number_of_times() -> None:
    drain = Drain()
    for _ in range(100_000):
        drain.request()
    assert drain.is_requested()


def test_signals_drain_only_while_a_job_may_run() -> None:
    drain = Drain()
    before = signal.getsignal(signal.SIGTERM)
    with draining_on_signals(drain):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert drain.is_requested()
    assert signal.getsignal(signal.SIGTERM) is before
