"""W3C trace context: which trace a piece of work belongs to, as one line that travels in headers, rows and variables.

Nothing here makes or exports a span: that is quantry_telemetry's, and off unless it was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

TRACEPARENT_HEADER = "traceparent"
TRACEPARENT_VARIABLE = "TRACEPARENT"
"""Environment variable of a child process; the name that OpenTelemetry's tools look for."""

TRACEPARENT_CHARS = 55

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01

_carried: ContextVar[str | None] = ContextVar("quantry_traceparent", default=None)


class TraceContext(NamedTuple):
    """A span of some trace, wherever it is."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    is_sampled: bool

    @property
    def traceparent(self) -> str:
        """This as the value of the header."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Returns what a ``traceparent`` says; None where it says nothing, or is not one (W3C Trace Context, section 3.2)."""
    found = _TRACEPARENT.fullmatch(text) if text is not None else None
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    # A later version may say more behind these four; ff is none.
    if version == "ff" or (version == "00" and rest is not None) or int(trace_id, 16) == 0 or int(span_id, 16) == 0:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def carried_traceparent() -> str | None:
    """Returns the span that this task or thread works for, as a header's value; None where there is none, or traces are off."""
    return _carried.get()


@contextmanager
def carrying(traceparent: str | None) -> Iterator[None]:
    """Within the block this task or thread works for that span. A thread that is begun there does not: it says so itself."""
    token = _carried.set(traceparent)
    try:
        yield
    finally:
        _carried.reset(token)
