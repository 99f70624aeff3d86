"""Renews an attempt's lease from a thread of its own, while inputs come in, the child works and results go out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from quantry_core.errors import QuantryError, StaleAttempt
from quantry_core.execution import HeartbeatRequest
from quantry_worker.control import Control
from quantry_worker.guard import MIN_TIMEOUT_S, POLL_S, Guard, StopReason, worker_clock

log = structlog.get_logger(__name__)

RETRY_S = 1.0


class Heartbeat:
    """Beats between enter and exit. What it learns goes to the guard: a renewed lease, a cancel request, a stale attempt.

    It never ends the attempt because it cannot reach the control plane: the guard does, when the lease is over by its clock.
    """

    def __init__(
        self, control: Control, job_id: str, attempt: int, guard: Guard, *, interval_s: float, clock: Callable[[], float] = worker_clock
    ) -> None:
        self._control = control
        self._job_id = job_id
        self._attempt = attempt
        self._guard = guard
        self._interval_s = interval_s
        self._clock = clock
        self._next_beat_at = clock() + interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()

    def beat_if_due(self) -> None:
        """Beats once if the interval is over, unless the job may be another's by now: a process that was stopped wakes up here."""
        now = self._clock()
        if now >= self._next_beat_at and self._guard.may_write():
            self._beat(now)

    def _run(self) -> None:
        while not self._ended.wait(min(POLL_S, self._interval_s)):
            self.beat_if_due()

    def _beat(self, now: float) -> None:
        # A beat that takes longer than the lease holds is of no use, and the next one can find another connection.
        timeout_s = max(MIN_TIMEOUT_S, min(self._interval_s, self._guard.remaining_s()))
        self._next_beat_at = now + self._interval_s
        try:
            reply = self._control.heartbeat(self._job_id, HeartbeatRequest(attempt=self._attempt), timeout_s)
        except StaleAttempt as error:
            log.warning("the attempt is stale", job_id=self._job_id, attempt=self._attempt, error=str(error))
            self._guard.mark(StopReason.STALE)
        except QuantryError as error:
            log.warning("a heartbeat failed", job_id=self._job_id, attempt=self._attempt, error=str(error))
            self._next_beat_at = self._clock() + min(RETRY_S, self._interval_s)
        else:
            self._guard.renew(lease_s=reply.lease_s, since=now)
            if reply.cancel_requested:
                self._guard.mark(StopReason.CANCELLED)
