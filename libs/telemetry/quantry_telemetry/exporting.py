"""The tracer of OpenTelemetry's SDK, sending OTLP over HTTP. Imported only where traces are on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

from quantry_core.traces import TraceContext
from quantry_telemetry.blotting import Blotter, secrets_of
from quantry_telemetry.traces import Attributes, SpanKind

_KINDS = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
}

EXPORT_TIMEOUT_S = 5.0


def make_tracer(service: str, url: str, *, ratio: float, believes_parents: bool) -> OtelTracer:
    """Returns a tracer whose spans go to ``url`` in batches, from a thread of its own."""
    by_id = TraceIdRatioBased(ratio)
    sampler: Sampler = ParentBased(by_id) if believes_parents else by_id
    resource = Resource.create({SERVICE_NAME: f"quantry-{service}", SERVICE_NAMESPACE: "quantry"})
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT_S)))
    return OtelTracer(provider)


class OtelSpan:
    """The Span of quantry_telemetry.traces."""

    def __init__(self, span: trace.Span, clean: Callable[[Attributes], Attributes]) -> None:
        self._span = span
        self._clean = clean
        known = span.get_span_context()
        self.context: TraceContext | None = TraceContext(
            trace.format_trace_id(known.trace_id), trace.format_span_id(known.span_id), known.trace_flags.sampled
        )

    def rename(self, name: str) -> None:
        """Names it anew."""
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        """Adds attributes."""
        self._span.set_attributes(self._clean(attributes))

    def event(self, name: str, attributes: Attributes) -> None:
        """Adds something that happened just now."""
        self._span.add_event(name, self._clean(attributes))

    def failed(self, kind: str) -> None:
        """Marks it as failed."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR))

    def end(self, ended_ns: int | None = None) -> None:
        """Ends it, now or then."""
        self._span.end(ended_ns)


class OtelTracer:
    """The Tracer of quantry_telemetry.traces."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("quantry")
        self._blotter = Blotter(secrets_of())

    def start(
        self, name: str, kind: SpanKind, parent: TraceContext | None, attributes: Attributes, began_ns: int | None = None
    ) -> OtelSpan:
        """Returns a span that begins now or then."""
        # An empty context where there is no parent: whatever else may be current in this process is none of ours.
        context = Context() if parent is None else trace.set_span_in_context(_remote(parent), Context())
        clean = self._clean(attributes)
        return OtelSpan(self._tracer.start_span(name, context, _KINDS[kind], clean, start_time=began_ns), self._clean)

    def flush(self, timeout_s: float) -> bool:
        """Sends what has ended; returns whether that was done in time."""
        return _done_in_time(self._provider.force_flush, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Sends what is left."""
        _done_in_time(self._provider.shutdown, timeout_s)

    def _clean(self, attributes: Attributes) -> Attributes:
        return {name: self._blotter.blot(value) if isinstance(value, str) else value for name, value in attributes.items()}


def _done_in_time(work: Callable[[], object], timeout_s: float) -> bool:
    """Does it, and returns whether it was over in time. In a thread: the SDK has time-outs for that, and does not keep them."""
    thread = threading.Thread(target=work, name="traces-flush", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return not thread.is_alive()


def _remote(parent: TraceContext) -> trace.Span:
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if parent.is_sampled else trace.TraceFlags.DEFAULT)
    return trace.NonRecordingSpan(trace.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags))
