"""What a pool process does when it is woken: claims and runs jobs of a queue until there is none left."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import stamina
import structlog

from quantry_core.errors import Unavailable
from quantry_core.execution import NextRequest
from quantry_core.jobs import Queue
from quantry_core.methods import Environment
from quantry_worker.control import Control
from quantry_worker.drain import Drain
from quantry_worker.guard import worker_clock
from quantry_worker.supervisor import Claim

log = structlog.get_logger(__name__)

CLAIM_PATIENCE_S = 15.0
"""How long a claim is tried again while the control plane is away. Then this wake is given up; the sweep sends another."""


class AttemptRunner(Protocol):
    """As quantry_worker.supervisor.Supervisor."""

    def run(self, claim: Claim) -> None:
        """Runs a claimed attempt to its end and reports it."""
        ...


class Slot:
    """One pool process's place for one job at a time."""

    def __init__(
        self,
        control: Control,
        runner: AttemptRunner,
        is_draining: Callable[[], bool],
        *,
        worker_id: str,
        environments: Mapping[Environment, str],
        clock: Callable[[], float] = worker_clock,
    ) -> None:
        self._worker_id = worker_id
        self._environments = dict(environments)
        self._control = control
        self._runner = runner
        self._is_draining = is_draining
        self._clock = clock

    def serve(self, queue: Queue) -> int:
        """Runs jobs of a queue until it is empty or the worker stops; returns how many.

        Raises Unavailable and other QuantryErrors when nothing can be claimed.
        """
        num_jobs = 0
        while not self._is_draining():
            claim = self._claim(queue)
            if claim is None:
                break
            self._runner.run(claim)
            num_jobs += 1
        return num_jobs

    def _claim(self, queue: Queue) -> Claim | None:
        request = NextRequest(queue=queue, worker_id=self._worker_id, environments=self._environments)
        for attempt in stamina.retry_context(on=Unavailable, attempts=None, timeout=CLAIM_PATIENCE_S, wait_max=2.0):
            with attempt:
                if self._is_draining():
                    return None
                since = self._clock()
                lease = self._control.next(request)
        return None if lease is None else Claim(lease, since)


@contextmanager
def draining_on_signals(drain: Drain) -> Iterator[None]:
    """While inside, SIGTERM and SIGQUIT raise the drain flag instead of ending the pool process in the middle of a job.

    Celery's own handlers are back afterwards: an idle pool process ends at once.
    """

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        drain.request()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGQUIT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
