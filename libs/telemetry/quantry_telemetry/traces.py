"""Traces: spans around what a service does, under one trace id from the request that began it to the last service it reaches.

Off unless a collector is named: then nothing of OpenTelemetry is imported, and a span is two comparisons. What goes on in a span is
told by the one line of W3C's trace context, which quantry_core.traces carries.
"""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType
from typing import Protocol

from quantry_core.traces import TRACEPARENT_HEADER, TraceContext, carried_traceparent, carrying, parse_traceparent
from quantry_telemetry.settings import TelemetrySettings

Attribute = str | int | float | bool
Attributes = Mapping[str, Attribute]
"""By names of OpenTelemetry's conventions, or ``quantry.*``. Never a text that a user wrote: a prompt, a message, a header."""

FLUSH_S = 2.0
LAST_FLUSH_S = 1.0
"""A collector that is away does not hold up the end of a service for longer."""


class SpanKind(StrEnum):
    """Which side of a conversation a span is."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


class Span(Protocol):
    """One piece of work that is being timed."""

    @property
    def context(self) -> TraceContext | None:
        """Which span of which trace it is; None where traces are off."""
        ...

    def rename(self, name: str) -> None:
        """Names it anew: what a request turned out to be."""
        ...

    def note(self, attributes: Attributes) -> None:
        """Adds attributes."""
        ...

    def event(self, name: str, attributes: Attributes) -> None:
        """Adds something that happened just now."""
        ...

    def failed(self, kind: str) -> None:
        """Marks it as failed; ``kind`` is a short word such as an exception's name, never its message."""
        ...

    def end(self, ended_ns: int | None = None) -> None:
        """Ends it, now or at that time of day (nanoseconds since 1970)."""
        ...


class Tracer(Protocol):
    """Makes spans and sends those that are kept to a collector."""

    def start(self, name: str, kind: SpanKind, parent: TraceContext | None, attributes: Attributes, began_ns: int | None = None) -> Span:
        """Returns a span that begins now, or at that time of day (nanoseconds since 1970)."""
        ...

    def flush(self, timeout_s: float) -> bool:
        """Sends what has ended; returns whether the collector took it in time."""
        ...

    def close(self, timeout_s: float) -> None:
        """Sends what is left, as far as that goes in the time."""
        ...


class NoSpan:
    """The span of a service whose traces are off."""

    context: TraceContext | None = None

    def rename(self, name: str) -> None:
        """Forgets it."""

    def note(self, attributes: Attributes) -> None:
        """Forgets them."""

    def event(self, name: str, attributes: Attributes) -> None:
        """Forgets it."""

    def failed(self, kind: str) -> None:
        """Forgets it."""

    def end(self, ended_ns: int | None = None) -> None:
        """Does nothing."""


NO_SPAN = NoSpan()


class _Tracing:
    """The process's tracer, as logging has the process's handlers."""

    tracer: Tracer | None = None


def configure_tracing(service: str, settings: TelemetrySettings | None = None, *, believes_parents: bool = True) -> bool:
    """Begins to trace where the settings name a collector; returns whether. Called once in a process, after its last fork.

    ``believes_parents``: a span whose parent is sampled is kept too. A service that strangers call says False: their traces go on
    under their id, but the settings alone decide which are kept.
    """
    settings = TelemetrySettings() if settings is None else settings
    if settings.traces_url is None:
        return False
    # Only here: a service that does not trace loads nothing of it.
    from quantry_telemetry.exporting import make_tracer  # noqa: PLC0415

    end_tracing()
    _Tracing.tracer = make_tracer(service, settings.traces_url, ratio=settings.traces_sample_ratio, believes_parents=believes_parents)
    return True


def is_tracing() -> bool:
    """Tells whether this process traces."""
    return _Tracing.tracer is not None


def flush_traces(timeout_s: float = FLUSH_S) -> bool:
    """Sends what has ended so far; returns whether it arrived. True where traces are off."""
    return True if _Tracing.tracer is None else _Tracing.tracer.flush(timeout_s)


def end_tracing() -> None:
    """Sends what is left, for LAST_FLUSH_S at most, and stops tracing."""
    tracer, _Tracing.tracer = _Tracing.tracer, None
    if tracer is not None:
        tracer.close(LAST_FLUSH_S)


def end_tracing_with_process() -> None:
    """Has tracing ended when this process ends, also by SIGTERM. For main modules: the handler stays.

    uvicorn lets a SIGTERM through once it has served its last request, and that would leave no time for anything.
    """
    if not is_tracing():
        return

    def on_term(number: int, _frame: FrameType | None) -> None:
        end_tracing()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    atexit.register(end_tracing)
    signal.signal(signal.SIGTERM, on_term)


def begin_span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
    attributes: Attributes | None = None,
    began_ns: int | None = None,
) -> Span:
    """Returns a span that the caller ends, below ``parent`` (a ``traceparent``) or else below the one that is carried."""
    if _Tracing.tracer is None:
        return NO_SPAN
    above = parse_traceparent(parent if parent is not None else carried_traceparent())
    return _Tracing.tracer.start(name, kind, above, attributes or {}, began_ns)


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
    attributes: Attributes | None = None,
    began_ns: int | None = None,
) -> Iterator[Span]:
    """A span around the block, which works for it. What the block raises marks it as failed, by the exception's name."""
    if _Tracing.tracer is None:
        yield NO_SPAN
        return
    begun = begin_span(name, kind=kind, parent=parent, attributes=attributes, began_ns=began_ns)
    try:
        with carrying(traceparent_of(begun)):
            yield begun
    except BaseException as error:
        begun.failed(type(error).__name__)
        raise
    finally:
        begun.end()


def traceparent_of(begun: Span) -> str | None:
    """Returns the line that hands a span on."""
    return None if begun.context is None else begun.context.traceparent


def trace_headers() -> dict[str, str]:
    """Returns the header that tells another service which span it works for; none where there is no span."""
    carried = carried_traceparent()
    return {} if carried is None else {TRACEPARENT_HEADER: carried}
