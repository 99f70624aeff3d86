"""The end of a worker that was started for work which is done: after so long without any it stops by itself, never in a job.

Whoever starts workers by what waits (a cluster's ScaledJob) cannot tell a busy one from an idle one, so it must not stop any. The
worker can tell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from celery.worker import state

from quantry_worker.guard import worker_clock

log = structlog.get_logger(__name__)

LOOK_INTERVAL_S = 1.0


class IdleEnd:
    """Watches one worker and ends it once, when no slot has had a wake for ``max_idle_s`` seconds."""

    def __init__(
        self,
        max_idle_s: float,
        *,
        is_busy: Callable[[], bool],
        end: Callable[[], None],
        clock: Callable[[], float] = worker_clock,
    ) -> None:
        self._max_idle_s = max_idle_s
        self._is_busy = is_busy
        self._end = end
        self._clock = clock
        self._idle_since_s = clock()

    def start(self) -> None:
        """Begins to look. In the main process only: the slots are told by it."""
        threading.Thread(target=self._run, name="idle", daemon=True).start()

    def look(self) -> bool:
        """Looks once; returns whether it ended the worker."""
        now_s = self._clock()
        if self._is_busy():
            self._idle_since_s = now_s
            return False
        if now_s - self._idle_since_s < self._max_idle_s:
            return False
        log.info("no work came; the worker ends", idle_s=self._max_idle_s)
        self._end()
        return True

    def _run(self) -> None:
        while not self.look():
            threading.Event().wait(LOOK_INTERVAL_S)


def is_any_slot_awake() -> bool:
    """Tells whether a wake was taken that no slot has done with. A slot runs jobs as long as its wake lasts."""
    return bool(state.reserved_requests) or bool(state.active_requests)


def end_softly() -> None:
    """Has Celery take no more wakes, wait for every slot, and end with status 0.

    As a worker that was told to stop ends, but without the drain: a wake that came in this very moment is worked off to its end.
    """
    # Celery's own flag, which its loop looks at between two events; what its signal handlers set as well.
    vars(state)["should_stop"] = 0
