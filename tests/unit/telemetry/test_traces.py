"""Spans are nested by the line that is carried; without a tracer there are none, and nothing is carried."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from quantry_core.traces import TraceContext, carried_traceparent, parse_traceparent
from quantry_telemetry import traces
from quantry_telemetry.settings import TelemetrySettings
from quantry_telemetry.traces import Attributes, NoSpan, SpanKind, begin_span, configure_tracing, span, trace_headers, traceparent_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Told:
    """A span of the tracer below."""

    name: str
    kind: SpanKind
    parent: TraceContext | None
    attributes: dict[str, object]
    context: TraceContext | None
    errors: list[str] = field(default_factory=list)
    is_over: bool = False

    def rename(self, name: str) -> None:
        self.name = name

    def note(self, attributes: Attributes) -> None:
        self.attributes |= attributes

    def event(self, name: str, attributes: Attributes) -> None:
        self.attributes[name] = attributes

    def failed(self, kind: str) -> None:
        self.errors.append(kind)

    def end(self, ended_ns: int | None = None) -> None:
        self.is_over = True


class Tracer:
    """Keeps spans."""

    def __init__(self) -> None:
        self.spans: list[Told] = []
        self._numbers = itertools.count(1)

    def start(self, name: str, kind: SpanKind, parent: TraceContext | None, attributes: Attributes, began_ns: int | None = None) -> Told:
        trace_id = f"{next(self._numbers):032x}" if parent is None else parent.trace_id
        context = TraceContext(trace_id, f"{next(self._numbers):016x}", is_sampled=True)
        told = Told(name, kind, parent, dict(attributes), context)
        self.spans.append(told)
        return told

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self, timeout_s: float) -> None:
        """Keeps what it has."""


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    kept = Tracer()
    monkeypatch.setattr(traces._Tracing, "tracer", kept)
    return kept


def test_nothing_is_traced_where_no_collector_is_named() -> None:
    assert not configure_tracing("spec", TelemetrySettings(traces_endpoint=None))
    with span("work", parent=PARENT) as begun:
        assert isinstance(begun, NoSpan)
        assert (traceparent_of(begun), carried_traceparent(), trace_headers()) == (None, None, {})
    assert isinstance(begin_span("more"), NoSpan)


def test_spans_below_each_other_share_a_trace(tracer: Tracer) -> None:
    with span("outer", kind=SpanKind.SERVER, parent=PARENT, attributes={"a": 1}) as outer, span("inner"):
        assert trace_headers() == {"traceparent": carried_traceparent()}
    assert trace_headers() == {}
    first, second = tracer.spans
    assert (first.name, first.kind, first.parent, first.attributes) == ("outer", SpanKind.SERVER, parse_traceparent(PARENT), {"a": 1})
    assert second.parent == outer.context
    assert first.is_over and second.is_over


def test_an_empty_parent_begins_a_trace_within_another(tracer: Tracer) -> None:
    with span("outer"), span("of its own", parent=""):
        pass
    outer, own = tracer.spans
    assert outer.context is not None and own.context is not None
    assert own.parent is None and own.context.trace_id != outer.context.trace_id


def test_what_is_raised_marks_the_span_by_its_name_alone(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="secret words"), span("work"):
        raise ValueError("secret words")
    (told,) = tracer.spans
    assert (told.errors, told.is_over, told.attributes) == (["ValueError"], True, {})


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, None),
        ({"QUANTRY_TRACES_ENDPOINT": ""}, None),
        ({"QUANTRY_TRACES_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://d"}, "http://c/v1/traces"),
        ({"QUANTRY_TRACES_ENDPOINT": "http://ours", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://theirs"}, "http://ours/v1/traces"),
    ],
)
def test_the_collector_is_named_by_our_variable_or_theirs(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str | None
) -> None:
    for name in ("QUANTRY_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert TelemetrySettings().traces_url == url


@pytest.mark.parametrize("ratio", ["-0.1", "1.1", "most"])
def test_a_share_lies_between_none_and_all(monkeypatch: pytest.MonkeyPatch, ratio: str) -> None:
    monkeypatch.setenv("QUANTRY_TRACES_SAMPLE_RATIO", ratio)
    with pytest.raises(ValueError, match="traces_sample_ratio"):
        TelemetrySettings()
