"""How much of what lasts goes on at once in this process: walks along audit chains, open event streams. Each asks the database often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from quantry_core.errors import TooManyRequests

COME_AGAIN_S = 5


class AtOnce:
    """Counts what goes on, for each of those who asked for it, and lets no more begin than may."""

    def __init__(self, *, what: str, limit_each: int, limit_all: int) -> None:
        """``what`` goes on, in the plural, for refusals."""
        self._what = what
        self._limit_each = limit_each
        self._limit_all = limit_all
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def one_of(self, whose: str) -> Iterator[None]:
        """One more goes on while the block does; raises TooManyRequests where there is no room for it."""
        if self._under_way[whose] >= self._limit_each:
            sentence = f"of the {self._what} that you asked for {self._limit_each} go on, as many as may at once"
            raise TooManyRequests(sentence, retry_after_s=COME_AGAIN_S)
        if self._under_way.total() >= self._limit_all:
            raise TooManyRequests(f"{self._limit_all} {self._what} go on here, as many as may at once", retry_after_s=COME_AGAIN_S)
        self._under_way[whose] += 1
        try:
            yield
        finally:
            self._under_way[whose] -= 1
            if not self._under_way[whose]:
                # Or what is counted would be everybody who ever asked.
                del self._under_way[whose]
