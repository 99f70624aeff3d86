"""A lock for each key that somebody holds or waits for, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class KeyLocks:
    """Threads of this process that name the same key take turns."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._locks: dict[str, tuple[Lock, int]] = {}
        """Each lock with how many hold it or wait for it."""

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Holds a key while the block runs."""
        with self._guard:
            lock, num_users = self._locks.get(key, (Lock(), 0))
            self._locks[key] = (lock, num_users + 1)
        try:
            with lock:
                yield
        finally:
            self._leave(key)

    @contextmanager
    def hold_if_free(self, key: str) -> Iterator[bool]:
        """Holds a key while the block runs and yields True; yields False at once where somebody holds it or waits for it."""
        with self._guard:
            is_free = key not in self._locks
            if is_free:
                lock = Lock()
                self._locks[key] = (lock, 1)
                # Taken before anybody else can find it.
                lock.acquire()
        if not is_free:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
            self._leave(key)

    def _leave(self, key: str) -> None:
        with self._guard:
            lock, num_users = self._locks[key]
            if num_users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, num_users - 1)
