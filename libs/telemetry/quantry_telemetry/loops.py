"""Loops that run beside requests, counted: how often they went round, how that ended, and when it last went well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)

Rounds = Callable[[str], AbstractContextManager[None]]
"""Called with a loop's name; its block is one round, and what it raises is a failure."""


def uncounted(_loop: str) -> AbstractContextManager[None]:
    """Counts nothing: for loops that nobody watches."""
    return nullcontext()


class LoopMetrics:
    """The loops of one service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rounds = Counter("quantry_loop_rounds", "Rounds of a loop, by how they ended.", ["loop", "outcome"], registry=registry)
        self._seconds = Histogram("quantry_loop_round_duration_seconds", "Time of one round.", ["loop"], buckets=SECONDS, registry=registry)
        self._succeeded_at = Gauge(
            "quantry_loop_last_success_timestamp_seconds", "When a round last went well, since 1970.", ["loop"], registry=registry
        )

    @contextmanager
    def round(self, loop: str) -> Iterator[None]:
        """One round of a loop."""
        began_s = time.monotonic()
        try:
            yield
        except Exception:
            self._rounds.labels(loop, "failed").inc()
            raise
        else:
            self._rounds.labels(loop, "succeeded").inc()
            self._succeeded_at.labels(loop).set(time.time())
        finally:
            self._seconds.labels(loop).observe(time.monotonic() - began_s)
