"""Queries of Prometheus: what is asked, and that whatever goes wrong becomes a sentence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from quantry_core.rules import AnalysisSpec, ErrorRateLimit, PrometheusLimit
from quantry_deploy.analysis.prometheus import MAX_ANSWER_BYTES, Prometheus, filled, number_of, without_server

URL = "http://prometheus.test:9090/"
QUERY = 'sum(rate(errors{release="{release}", name=~"{deployment}.*"}[{seconds}s])) by (job)'


def answered(data: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json={"status": "success", "data": data})


async def values(handler: Any, *queries: str, seconds: float = 61.4, timeout_s: float = 5.0) -> dict[str, float | str]:
    server = Prometheus(URL, timeout_s=timeout_s, transport=httpx.MockTransport(handler))
    spec = AnalysisSpec(rules=[ErrorRateLimit(max_rate=0.5), *(PrometheusLimit(query=query, max_value=1) for query in queries)])
    try:
        return await server.values(spec, release="rel_1", deployment="chat", seconds=seconds)
    finally:
        await server.close()


async def test_placeholders_are_filled_and_other_braces_left_alone() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return answered({"resultType": "vector", "result": [{"metric": {"job": "a"}, "value": [1.5, "0.25"]}]})

    assert await values(handler, QUERY) == {QUERY: 0.25}
    assert asked[0].path == "/api/v1/query" and asked[0].host == "prometheus.test"
    assert asked[0].params["query"] == 'sum(rate(errors{release="rel_1", name=~"chat.*"}[61s])) by (job)'


async def test_each_query_is_asked_once_and_has_its_own_value() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["query"])
        return answered({"resultType": "scalar", "result": [1.5, "2"]}) if asked[-1] == "a" else httpx.Response(503, text="starting")

    found = await values(handler, "a", "b", "a")
    assert sorted(asked) == ["a", "b"]
    assert found == {"a": 2.0, "b": "Prometheus answered 503 with something that is no JSON"}


async def test_a_span_is_at_least_a_second() -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["query"])
        return answered({"resultType": "scalar", "result": [1.5, "2"]})

    await values(handler, "x[{seconds}s]", seconds=0.0)
    assert asked == ["x[1s]"]


@pytest.mark.parametrize(
    ("status", "document", "words"),
    [
        (200, {"status": "success", "data": {"resultType": "vector", "result": []}}, "Prometheus has no series for it"),
        (
            200,
            {"status": "success", "data": {"resultType": "vector", "result": [{"value": [1, "1"]}, {"value": [1, "2"]}]}},
            "Prometheus answered 2 series where one number is needed",
        ),
        (200, {"status": "success", "data": {"resultType": "scalar", "result": [1, "NaN"]}}, "answered NaN, which is no number"),
        (200, {"status": "success", "data": {"resultType": "scalar", "result": [1, "+Inf"]}}, "answered +Inf, which is no number"),
        (200, {"status": "success", "data": {"resultType": "scalar", "result": [1, "abc"]}}, "'abc', which is no number"),
        (200, {"status": "success", "data": {"resultType": "string", "result": [1, "5"]}}, "a string that is not one number"),
        (200, {"status": "success", "data": {"resultType": "matrix", "result": []}}, "a matrix that is not one number"),
        (200, {"status": "success", "data": {"resultType": "vector", "result": [{"histogram": [1, {}]}]}}, "a vector that is not one"),
        (200, {"status": "success", "data": None}, "something that is not one number"),
        (200, {"status": "success"}, "something that is not one number"),
        (200, [], "Prometheus answered 200: no reason given"),
        (400, {"status": "error", "errorType": "bad_data", "error": "parse error"}, "Prometheus answered 400: parse error"),
        (422, {"status": "error", "error": "x" * 2000}, f"Prometheus answered 422: {'x' * 300}"),
    ],
)
async def test_an_answer_that_is_no_number_says_why(status: int, document: Any, words: str) -> None:
    found = await values(lambda _request: httpx.Response(status, json=document), "up")
    assert isinstance(found["up"], str) and words in found["up"]
    assert len(found["up"]) < 400


async def test_nobody_there_and_a_broken_answer_say_why() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed", request=request)

    assert await values(refuse, "up") == {"up": "Prometheus cannot be asked: All connection attempts failed"}
    assert await values(lambda _request: httpx.Response(200, content=b"{"), "up") == {
        "up": "Prometheus answered 200 with something that is no JSON"
    }


async def test_an_address_that_is_none_says_why() -> None:
    server = Prometheus("ftp://prometheus.test")
    found = await server.values(AnalysisSpec(rules=[PrometheusLimit(query="up", max_value=1)]), release="r", deployment="d", seconds=1)
    await server.close()
    assert str(found["up"]).startswith("Prometheus cannot be asked: ")


async def test_a_slow_answer_is_given_up() -> None:
    forever = asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"
        await forever.wait()

    async def handler(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=drip())

    assert await values(handler, "up", timeout_s=0.05) == {"up": "Prometheus did not answer within 0.05 s"}


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    body = json.dumps({"status": "success", "data": "x" * (2 * MAX_ANSWER_BYTES)}).encode()
    assert await values(lambda _request: httpx.Response(200, content=body), "up") == {
        "up": "Prometheus answered more than 1024 KiB where one number is needed"
    }


def test_a_number_is_read_from_scalar_and_vector() -> None:
    assert number_of(200, b'{"status": "success", "data": {"resultType": "scalar", "result": [1, "1e3"]}}') == 1000
    assert filled("a{b='{c}'}", {"c": "d"}) == "a{b='d'}"


def test_without_a_server_every_query_has_its_reason() -> None:
    spec = AnalysisSpec(rules=[ErrorRateLimit(max_rate=0.5), PrometheusLimit(query="up", max_value=1)])
    assert without_server(spec) == {"up": "no Prometheus is configured (QUANTRY_PROMETHEUS_URL)"}
