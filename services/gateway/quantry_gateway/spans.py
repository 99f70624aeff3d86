"""The gateway's spans: around each request that it passes on, and around each try at a replica. None where traces are off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quantry_core.routes import RoutedReplica
from quantry_core.traces import TRACEPARENT_HEADER, parse_traceparent
from quantry_gateway.exchange import Answer, Request
from quantry_gateway.headers import header_value
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.paths import Plane
from quantry_gateway.records import Record
from quantry_telemetry import gen_ai
from quantry_telemetry.traces import SpanKind, is_tracing, span

_TRACED = frozenset({Plane.DATA, Plane.API, Plane.REGISTRY})

_MACHINES = b"/api/v1/execution/"
"""Workers ask here all day: their requests are in the trace of the job they are about, and begin none."""


@contextmanager
def serving(plane: Plane, request: Request, answer: Answer) -> Iterator[None]:
    """A span around a request that is passed on, in its client's trace where it has one."""
    if not is_tracing() or plane not in _TRACED:
        yield
        return
    given = header_value(request.headers, TRACEPARENT_HEADER.encode())
    parent = parse_traceparent(given.decode("latin-1")) if given is not None else None
    if parent is None and request.raw_path.startswith(_MACHINES):
        yield
        return
    # Not by its path: that has names in it which users gave.
    name, operation = f"{request.method} {plane}", gen_ai.OPERATIONS.get(request.path)
    with span(name, kind=SpanKind.SERVER, parent="" if parent is None else parent.traceparent) as begun:
        begun.note({"http.request.method": request.method, "quantry.plane": plane, "quantry.request_id": request.id.decode("latin-1")})
        if operation is not None:
            begun.note({gen_ai.OPERATION_NAME: operation, gen_ai.PROVIDER_NAME: gen_ai.PROVIDER})
        try:
            yield
        finally:
            begun.note({"http.response.status_code": answer.status or 0})
            if answer.status is not None and answer.status >= 500:
                begun.failed(str(answer.status))


@contextmanager
def asking(replica: RoutedReplica, path: str, record: Record) -> Iterator[None]:
    """A span around one try at a replica, with what its answer said of its tokens."""
    if not is_tracing():
        yield
        return
    about = {"url.path": path, "quantry.replica_id": replica.id, "quantry.release_id": replica.release_id}
    with span("ask a replica", kind=SpanKind.CLIENT, attributes=about) as begun:
        yield
        said = record.said()
        tokens = {gen_ai.USAGE_INPUT_TOKENS: said.prompt_tokens, gen_ai.USAGE_OUTPUT_TOKENS: said.completion_tokens}
        begun.note({name: number for name, number in tokens.items() if number is not None})
        if record.kind is OutcomeKind.FAILED:
            begun.failed(OutcomeKind.FAILED)
