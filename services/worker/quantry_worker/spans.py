"""The span of an attempt, in the trace of the request that submitted its job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from quantry_core.execution import FinishRequest, Lease, Outcome
from quantry_telemetry.traces import Attributes, Span, begin_span, is_tracing, span

NANOSECONDS = 1_000_000_000


@contextmanager
def attempt_span(lease: Lease, seconds: float) -> Iterator[Span]:
    """A span around the block. It began ``seconds`` ago, with the claim, which has one of its own; a job that was submitted while
    traces were off begins a trace."""
    now_ns = time.time_ns()
    began_ns = now_ns - int(seconds * NANOSECONDS)
    about: Attributes = {
        "quantry.job.id": lease.job.id,
        "quantry.job.type": str(lease.job.type),
        "quantry.job.attempt": lease.attempt,
        "quantry.queue": lease.job.queue or "",
    }
    with span(f"attempt {lease.job.type}", parent=lease.traceparent or "", attributes=about, began_ns=began_ns) as begun:
        if is_tracing():
            begin_span("claim", began_ns=began_ns).end(now_ns)
        yield begun


def tell_end(begun: Span, request: FinishRequest | None) -> None:
    """Says in an attempt's span how it ended; None: it lost its job."""
    outcome, reason = ("dropped", "") if request is None else (str(request.outcome), str(request.reason))
    begun.note({"quantry.outcome": outcome, "quantry.reason": reason})
    if outcome not in {Outcome.SUCCEEDED, Outcome.RELEASED, Outcome.CANCELLED}:
        begun.failed(reason or outcome)
