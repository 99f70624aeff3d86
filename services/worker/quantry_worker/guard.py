"""Whether an attempt may go on. Every wait of the supervisor asks here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

POLL_S = 0.2
LEASE_MARGIN = 0.1
"""Share of a lease that is not used: by then the child is killed, so it is dead before another worker gets the job."""


class StopReason(StrEnum):
    """Why an attempt ends before its work is done, the strongest first. After the first two nothing more may be written.

    A cancel outranks the limits: the user wants the job gone, not tried again. The limits outrank a shutdown: a job that is
    handed back at the moment it went beyond its limit would only do so again.
    """

    STALE = "stale"
    LEASE_LOST = "lease_lost"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    DRAINING = "draining"


REQUEST_TIMEOUT_S = 20.0
DRAINING_TIMEOUT_S = 1.5
"""How long one request may take, and the same while the worker shuts down: a control plane that hangs must not hold that up."""
MIN_TIMEOUT_S = 0.5

MAY_NOT_WRITE = frozenset({StopReason.STALE, StopReason.LEASE_LOST})


class Bounds(NamedTuple):
    """What an attempt may use at most: wall-clock seconds since its claim, and bytes with the words for whose bound that is."""

    time_s: float | None = None
    memory_bytes: int | None = None
    memory_words: str = "the job's limit"


def worker_clock() -> float:
    """Returns seconds on a clock that only moves forward, and also while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stopped(Exception):
    """Raised out of a step when the attempt must end. ``words`` says which limit was passed and by what, else nothing."""

    def __init__(self, reason: StopReason, words: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.words = words


class Permission(Protocol):
    """Whether something may go on: a Guard for the work of an attempt, another one for what may outlast it."""

    def reason(self) -> str | None:
        """Returns why it must end; None while it may go on."""
        ...

    def check(self) -> None:
        """Raises if it must end: Stopped, where that is the attempt's end."""
        ...


class Guard:
    """Knows until when the lease surely holds, by this machine's own clock, and what else ends the attempt. Thread-safe.

    The lease is counted from before the request that renewed it was sent, so it never seems longer here than on the
    database's clock. A shutdown ends the attempt ``drain_grace_s`` seconds after it was first seen here.
    """

    def __init__(
        self,
        *,
        lease_s: float,
        since: float,
        is_draining: Callable[[], bool],
        bounds: Bounds = Bounds(),  # noqa: B008 - an immutable value
        drain_grace_s: float = 0.0,
        clock: Callable[[], float] = worker_clock,
    ) -> None:
        self._clock = clock
        self._since = since
        self._is_draining = is_draining
        self._bounds = bounds
        self._drain_grace_s = drain_grace_s
        self._drain_ends_at: float | None = None
        self._lock = threading.Lock()
        self._marks: dict[StopReason, str] = {}
        self._holds_until = 0.0
        self.peak_memory_bytes = 0
        self.renew(lease_s=lease_s, since=since)

    def renew(self, *, lease_s: float, since: float) -> None:
        """The control plane renewed the lease for ``lease_s`` seconds with a request sent at ``since``."""
        with self._lock:
            self._holds_until = since + lease_s * (1 - LEASE_MARGIN)

    def mark(self, reason: StopReason, words: str = "") -> None:
        """Ends the attempt for this reason."""
        with self._lock:
            self._marks.setdefault(reason, words)

    def saw_memory(self, resident_bytes: int) -> None:
        """The child and all it started hold so many bytes: ends the attempt if that is beyond its bound."""
        self.peak_memory_bytes = max(self.peak_memory_bytes, resident_bytes)
        bound_bytes = self._bounds.memory_bytes
        if bound_bytes is not None and resident_bytes > bound_bytes:
            self.mark(
                StopReason.OUT_OF_MEMORY,
                f"it held {_mebibytes(resident_bytes)} of memory, more than {self._bounds.memory_words} of {_mebibytes(bound_bytes)}",
            )

    def remaining_s(self) -> float:
        """Returns how long the lease surely holds; negative when it may be over."""
        with self._lock:
            return self._holds_until - self._clock()

    def now(self) -> float:
        """Returns seconds on the clock that all of this is counted on."""
        return self._clock()

    def timeout_s(self) -> float:
        """Returns how long a request of this attempt may take: no longer than its lease holds."""
        limit_s = DRAINING_TIMEOUT_S if self.reason() is StopReason.DRAINING else REQUEST_TIMEOUT_S
        return max(MIN_TIMEOUT_S, min(limit_s, self.remaining_s()))

    def may_write(self) -> bool:
        """Tells whether the job is surely still this attempt's: asked before every request that would change something."""
        return self.reason() not in MAY_NOT_WRITE

    def reason(self) -> StopReason | None:
        """Returns why the attempt must end; None while it may go on."""
        now = self._clock()
        if self.remaining_s() <= 0:
            # For good: a renewal that arrives after this answer must not bring a killed attempt back.
            self.mark(StopReason.LEASE_LOST)
        else:
            self._look_at_the_time(now)
            self._look_at_the_drain(now)
        with self._lock:
            return next((reason for reason in StopReason if reason in self._marks), None)

    def check(self) -> None:
        """Raises Stopped if the attempt must end."""
        reason = self.reason()
        if reason is not None:
            raise Stopped(reason, self._marks[reason])

    def _look_at_the_time(self, now: float) -> None:
        bound_s, took_s = self._bounds.time_s, now - self._since
        if bound_s is not None and took_s > bound_s:
            self.mark(StopReason.TIMED_OUT, f"it took {took_s:.1f} s, longer than its limit of {bound_s:g} s")

    def _look_at_the_drain(self, now: float) -> None:
        if self._drain_ends_at is None and self._is_draining():
            self._drain_ends_at = now + self._drain_grace_s
        if self._drain_ends_at is not None and now >= self._drain_ends_at:
            self.mark(StopReason.DRAINING)


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / 1024**2:.0f} MiB"
