"""The data plane's spans, and what of a trace and a request's id reaches an engine."""

from __future__ import annotations

import re
from collections.abc import Iterator

import aiohttp
import pytest

from factories.collector import Collector, collecting
from factories.gateway import StartEngines, StartGateway, answer_normally, drop_before_answer
from quantry_core.traces import parse_traceparent
from quantry_telemetry.settings import TelemetrySettings
from quantry_telemetry.traces import configure_tracing, end_tracing, flush_traces

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENTS_SPAN = "b7ad6b7169203331"
BODY = {
    "model": "bard",
    "messages": [{"role": "user", "content": "the-secret-prompt"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """This process traces to it until the test is over."""
    with collecting() as running:
        configure_tracing("gateway", TelemetrySettings(traces_endpoint=running.url), believes_parents=False)
        yield running
        end_tracing()


async def ask(http: aiohttp.ClientSession, url: str, **headers: str) -> None:
    async with http.post(f"{url}/v1/chat/completions", json=BODY, headers=headers) as answer:
        assert answer.status == 200
        await answer.read()


async def test_a_request_is_traced_to_the_engine_that_answers(
    collector: Collector, start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    broken, well = await start_engines(drop_before_answer, answer_normally)
    url = await start_gateway(broken.url, well.url)
    flags = {"traceparent": f"00-{TRACE}-{CLIENTS_SPAN}-00", "tracestate": "a=b", "x-request-id": "mine"}
    while not broken.headers:
        await ask(http, url, **flags)
    assert flush_traces()
    spans = [span for span in collector.spans() if span.trace_id == TRACE]
    failed = next(span for span in spans if span.name == "ask a replica" and span.is_error)
    answered = next(span for span in spans if span.name == "ask a replica" and span.parent_id == failed.parent_id and not span.is_error)
    request = next(span for span in spans if span.span_id == failed.parent_id)
    # The client said not to keep it: that is for the gateway to say.
    assert (request.name, request.parent_id, request.is_error) == ("POST data", CLIENTS_SPAN, False)
    assert (
        request.attributes.items()
        >= {"http.response.status_code": 200, "gen_ai.operation.name": "chat", "quantry.request_id": "mine"}.items()
    )
    assert failed.attributes["error.type"] == "Dropped"
    told = parse_traceparent(well.headers[-1]["traceparent"])
    assert told is not None and (told.trace_id, told.span_id, told.is_sampled) == (TRACE, answered.span_id, True)
    assert "tracestate" not in well.headers[-1]
    assert not any(b"the-secret-prompt" in body for body in collector.bodies)


async def test_without_a_clients_trace_the_gateway_begins_one(
    collector: Collector, start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    url = await start_gateway(engine.url)
    for _ in range(2):
        await ask(http, url, traceparent="00-not-a-trace-01")
    assert flush_traces()
    begun = [span for span in collector.spans() if span.name == "POST data"]
    assert len({span.trace_id for span in begun}) == len(begun) == 2
    assert {span.parent_id for span in begun} == {""}


async def test_engines_get_the_requests_id_each_time_another(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    url = await start_gateway(engine.url)
    for _ in range(2):
        await ask(http, url, **{"x-request-id": "mine", "traceparent": f"00-{TRACE}-{CLIENTS_SPAN}-01"})
    ids = [headers["x-request-id"] for headers in engine.headers]
    assert len(set(ids)) == 2 and all(re.fullmatch(r"mine-[0-9a-f]{8}", one) for one in ids)
    # Traces are off: the engine is told of none.
    assert not any("traceparent" in headers for headers in engine.headers)
