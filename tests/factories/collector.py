"""An OpenTelemetry collector that keeps what it is sent: OTLP over HTTP, as the protocol's own classes read it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from factories.threaded_server import serving_threads


@dataclass(frozen=True)
class Span:
    """A span as it arrived."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: tuple[str, ...]
    is_error: bool


@dataclass
class Collector:
    """What came. ``bodies`` are the requests as they were sent."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def spans(self) -> list[Span]:
        """Returns every span so far."""
        with self.changed:
            return [span for body in self.bodies for span in _spans(body)]

    def wait_for(self, is_enough: Callable[[list[Span]], bool], timeout_s: float = 20.0) -> list[Span]:
        """Returns the spans once they are enough; fails with their names after ``timeout_s`` seconds."""
        ends_at = time.monotonic() + timeout_s
        with self.changed:
            while not is_enough(self.spans()):
                left_s = ends_at - time.monotonic()
                assert left_s > 0, f"only these spans came: {[(span.service, span.name) for span in self.spans()]}"
                self.changed.wait(left_s)
        return self.spans()


@contextmanager
def collecting() -> Iterator[Collector]:
    """Serves a collector on loopback."""
    collector = Collector(changed=threading.Condition(threading.RLock()))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_ours = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if is_ours:
                with collector.changed:
                    collector.bodies.append(body)
                    collector.changed.notify_all()
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if is_ours else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: the tests' output is for the tests."""

    with serving_threads(Handler) as url:
        collector.url = url
        yield collector


def _spans(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {item.key: item.value.string_value for item in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=about["service.name"],
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes={item.key: _value(item.value) for item in span.attributes},
                    events=tuple(event.name for event in span.events),
                    is_error=span.status.code == 2,
                )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
