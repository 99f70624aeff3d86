"""Values of PromQL queries, for rules that hold them against a bound.

A query is asked as an instant query of Prometheus's HTTP API, or of whatever speaks it (Thanos, Mimir, VictoriaMetrics). What goes wrong
becomes a sentence in the value's place: an analysis that failed is inconclusive, never a pass and never an exception.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping

import httpx

from quantry_core.rules import AnalysisSpec, PrometheusLimit

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_ERROR_CHARS = 300


class PrometheusError(Exception):
    """Base of the reasons for which a query has no value. Its text is a sentence for people."""


class Unreachable(PrometheusError):
    """Nobody answered, or not in time."""


class Refused(PrometheusError):
    """The server answered that it will not."""


class NoNumber(PrometheusError):
    """The server answered, but not with one finite number."""


class Prometheus:
    """One server. Close it at the end."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(timeout=timeout_s, transport=transport, trust_env=False)

    async def values(self, spec: AnalysisSpec, *, release: str, deployment: str, seconds: float) -> dict[str, float | str]:
        """Returns, by the query of each prometheus_limit of a spec, its value or a sentence that says why there is none.

        ``seconds`` are those since the candidate first got traffic.
        """
        words = {"release": release, "deployment": deployment, "seconds": str(max(1, round(seconds)))}
        queries = list(dict.fromkeys(rule.query for rule in spec.rules if isinstance(rule, PrometheusLimit)))
        found = await asyncio.gather(*(self._value_or_reason(filled(query, words)) for query in queries))
        return dict(zip(queries, found, strict=True))

    async def _value_or_reason(self, query: str) -> float | str:
        try:
            return await self.value(query)
        except PrometheusError as error:
            return str(error)

    async def value(self, query: str) -> float:
        """Returns the one number that a query answers; raises PrometheusError."""
        try:
            async with asyncio.timeout(self._timeout_s), self._client.stream("GET", self._url, params={"query": query}) as response:
                body = await _read(response)
        except (httpx.TimeoutException, TimeoutError):
            raise Unreachable(f"Prometheus did not answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"Prometheus cannot be asked: {str(error) or type(error).__name__}") from error
        return number_of(response.status_code, body)

    async def close(self) -> None:
        await self._client.aclose()


def without_server(spec: AnalysisSpec) -> dict[str, float | str]:
    """Returns what ``values`` would where no server is configured."""
    reason = "no Prometheus is configured (QUANTRY_PROMETHEUS_URL)"
    return {rule.query: reason for rule in spec.rules if isinstance(rule, PrometheusLimit)}


def filled(query: str, words: Mapping[str, str]) -> str:
    """Returns a query with its placeholders replaced, and nothing else: braces are PromQL's own."""
    for name, value in words.items():
        query = query.replace(f"{{{name}}}", value)
    return query


def number_of(status: int, body: bytes) -> float:
    """Returns the number in an answer of ``/api/v1/query``: a scalar, or a vector of one series. Raises Refused or NoNumber."""
    try:
        answer = json.loads(body)
    except ValueError:
        raise Refused(f"Prometheus answered {status} with something that is no JSON") from None
    if not isinstance(answer, dict) or answer.get("status") != "success":
        told = answer.get("error") if isinstance(answer, dict) else None
        raise Refused(f"Prometheus answered {status}: {str(told)[:MAX_ERROR_CHARS] if told else 'no reason given'}")
    match answer.get("data"):
        case {"resultType": "scalar", "result": [_, str(text)]}:
            return _finite(text)
        case {"resultType": "vector", "result": [{"value": [_, str(text)]}]}:
            return _finite(text)
        case {"resultType": "vector", "result": []}:
            raise NoNumber("Prometheus has no series for it")
        case {"resultType": "vector", "result": list(series)} if len(series) > 1:
            raise NoNumber(f"Prometheus answered {len(series)} series where one number is needed")
        case {"resultType": str(kind)}:
            raise NoNumber(f"Prometheus answered a {kind[:40]} that is not one number")
        case _:
            raise NoNumber("Prometheus answered something that is not one number")


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise NoNumber(f"Prometheus answered {text[:40]!r}, which is no number") from None
    if not math.isfinite(value):
        raise NoNumber(f"Prometheus answered {text}, which is no number to judge by")
    return value


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise NoNumber(f"Prometheus answered more than {MAX_ANSWER_BYTES // 1024} KiB where one number is needed")
    return bytes(body)
