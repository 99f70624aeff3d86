"""What keys have used in the last minute: a storage for the library ``limits`` that fits one event loop.

The library's own storage in memory keeps an entry for each unit that is used, so for each token, and starts a thread to forget them.
Here one entry holds all that was used within RESOLUTION_S, so a key costs the same whatever its limits are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from limits.storage import MovingWindowSupport, Storage

RESOLUTION_S = 0.05
"""A unit may count for so much longer than its window."""

_SWEEP_S = 60.0


class KeyWindows(Storage, MovingWindowSupport):
    """Moving windows in memory. Times are those of ``clock_s``, in seconds. A key's windows have the length of its last call."""

    STORAGE_SCHEME = None

    def __init__(self, *, clock_s: Callable[[], float]) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._used: dict[str, _Used] = {}
        self._swept_s = clock_s()

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """There is nothing outside of this process that could fail."""
        return ()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Uses ``amount`` units if at most ``limit`` are used then; tells whether it did."""
        used = self._current(key, expiry)
        if used.total + amount > limit:
            return False
        used.add(amount, self._clock_s())
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002 - the library's signature
        """Returns when the oldest unit that counts was used (now where there is none), and how many count."""
        used = self._current(key, expiry)
        return (used.entries[0].last_s if used.entries else self._clock_s()), used.total

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Uses units whatever the limit is, because they have been spent already; returns how many count now."""
        used = self._current(key, expiry)
        used.add(amount, self._clock_s())
        return used.total

    def get(self, key: str) -> int:
        """Returns how many units of a key count now."""
        used = self._used.get(key)
        return self._current(key, used.expiry_s).total if used is not None else 0

    def get_expiry(self, key: str) -> float:
        """Returns when the oldest unit of a key ceases to count; now where none does."""
        used = self._used.get(key)
        return used.entries[0].last_s + used.expiry_s if used is not None and used.entries else self._clock_s()

    def wait_s(self, key: str, limit: int, expiry: int) -> float:
        """Returns the seconds until fewer than ``limit`` units count, if no more are used; 0 where that is so now."""
        used = self._current(key, expiry)
        left, free_s = used.total, self._clock_s()
        for entry in used.entries:
            if left < limit:
                break
            left, free_s = left - entry.amount, entry.last_s + expiry
        return max(0.0, free_s - self._clock_s())

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Forgets everything; returns how many keys that were."""
        num_keys = len(self._used)
        self._used.clear()
        return num_keys

    def clear(self, key: str) -> None:
        """Forgets what a key has used."""
        self._used.pop(key, None)

    def _current(self, key: str, expiry_s: int) -> _Used:
        now_s = self._clock_s()
        if now_s - self._swept_s > _SWEEP_S:
            self._sweep(now_s)
        used = self._used.get(key)
        if used is None:
            used = self._used[key] = _Used()
        used.expiry_s = expiry_s
        used.forget(now_s)
        return used

    def _sweep(self, now_s: float) -> None:
        """Forgets the keys that have used nothing lately: they may be revoked."""
        self._swept_s = now_s
        for used in self._used.values():
            used.forget(now_s)
        self._used = {key: used for key, used in self._used.items() if used.entries}


@dataclass(slots=True)
class _Entry:
    began_s: float
    last_s: float
    amount: int


@dataclass(slots=True)
class _Used:
    """What one key has used within its window, oldest first, and the sum of it."""

    expiry_s: int = 0
    entries: deque[_Entry] = field(default_factory=deque)
    total: int = 0

    def forget(self, now_s: float) -> None:
        """Drops what has left the window."""
        while self.entries and self.entries[0].last_s <= now_s - self.expiry_s:
            self.total -= self.entries.popleft().amount

    def add(self, amount: int, now_s: float) -> None:
        """Adds units used now."""
        self.total += amount
        if self.entries and now_s - self.entries[-1].began_s < RESOLUTION_S:
            newest = self.entries[-1]
            newest.last_s, newest.amount = now_s, newest.amount + amount
        else:
            self.entries.append(_Entry(now_s, now_s, amount))
