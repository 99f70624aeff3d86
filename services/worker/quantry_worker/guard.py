"""Whether an attempt may go on. Every wait of the supervisor asks here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum

POLL_S = 0.2
LEASE_MARGIN = 0.1
"""Share of a lease that is not used: by then the child is killed, so it is dead before another worker gets the job."""


class StopReason(StrEnum):
    """Why an attempt ends before its work is done, the strongest first. After the first two nothing more may be written."""

    STALE = "stale"
    LEASE_LOST = "lease_lost"
    CANCELLED = "cancelled"
    DRAINING = "draining"


def worker_clock() -> float:
    """Returns seconds on a clock that only moves forward, and also while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stopped(Exception):
    """Raised out of a step when the attempt must end."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Guard:
    """Knows until when the lease surely holds, by this machine's own clock, and what else ends the attempt. Thread-safe.

    The lease is counted from before the request that renewed it was sent, so it never seems longer here than on the
    database's clock.
    """

    def __init__(self, *, lease_s: float, since: float, is_draining: Callable[[], bool], clock: Callable[[], float] = worker_clock) -> None:
        self._clock = clock
        self._is_draining = is_draining
        self._lock = threading.Lock()
        self._marks: set[StopReason] = set()
        self._holds_until = 0.0
        self.renew(lease_s=lease_s, since=since)

    def renew(self, *, lease_s: float, since: float) -> None:
        """The control plane renewed the lease for ``lease_s`` seconds with a request sent at ``since``."""
        with self._lock:
            self._holds_until = since + lease_s * (1 - LEASE_MARGIN)

    def mark(self, reason: StopReason) -> None:
        """Ends the attempt for this reason."""
        with self._lock:
            self._marks.add(reason)

    def remaining_s(self) -> float:
        """Returns how long the lease surely holds; negative when it may be over."""
        with self._lock:
            return self._holds_until - self._clock()

    def reason(self) -> StopReason | None:
        """Returns why the attempt must end; None while it may go on. A lost lease outranks everything, a cancel a shutdown."""
        if self.remaining_s() <= 0:
            # For good: a renewal that arrives after this answer must not bring a killed attempt back.
            self.mark(StopReason.LEASE_LOST)
        elif self._is_draining():
            self.mark(StopReason.DRAINING)
        with self._lock:
            return next((reason for reason in StopReason if reason in self._marks), None)

    def check(self) -> None:
        """Raises Stopped if the attempt must end."""
        reason = self.reason()
        if reason is not None:
            raise Stopped(reason)
