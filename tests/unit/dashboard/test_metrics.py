"""What the dashboard counts of its requests: templates of addresses, never addresses."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from quantry_dashboard.metrics import CountedRequests, dashboard_registry, template_of
from quantry_telemetry.http_metrics import HttpMetrics


def shown(registry: CollectorRegistry, prefix: str) -> dict[str, float]:
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith(prefix)]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_requests_are_counted_and_their_lines_carry_an_id() -> None:
    ids: list[str] = []

    async def job(request: Request) -> PlainTextResponse:
        request.scope["route"] = SimpleNamespace(path="/jobs/{job_id}")
        ids.append(structlog.contextvars.get_contextvars()["request_id"])
        return PlainTextResponse("a page")

    registry = CollectorRegistry()
    app = CountedRequests(Starlette(routes=[Route("/jobs/{job_id}", job)]), HttpMetrics(registry))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/jobs/job_1", headers={"X-Request-Id": "mine"})
        await client.get("/jobs/job_2", headers={"X-Request-Id": "not one of ours"})
        await client.get("/nothing/here")
    assert shown(registry, "quantry_http_requests_total") == {
        'quantry_http_requests_total{method="GET",route="/jobs/{job_id}",status="200"}': 2,
        'quantry_http_requests_total{method="GET",route="none",status="404"}': 1,
    }
    assert shown(registry, "quantry_http_requests_in_flight") == {"quantry_http_requests_in_flight": 0}
    assert ids[0] == "mine" and len(ids[1]) == 32


def test_files_and_sockets_are_counted_together() -> None:
    assert template_of({"path": "/static/dashboard.css"}) == "/static"
    assert template_of({"path": "/_nicegui/3.18/x.js"}) == "/_nicegui"
    assert template_of({"path": "/_nicegui_ws/socket.io/"}) == "/_nicegui_ws"
    assert template_of({"path": "/elsewhere"}) is None


def test_sessions_and_pages_are_asked_at_each_scrape() -> None:
    numbers = [3, 5]
    registry = dashboard_registry(lambda: numbers[0], lambda: numbers[1])
    assert shown(registry, "quantry_dashboard_") == {"quantry_dashboard_sessions": 3, "quantry_dashboard_pages_open": 5}
    numbers[:] = [1, 0]
    assert shown(registry, "quantry_dashboard_") == {"quantry_dashboard_sessions": 1, "quantry_dashboard_pages_open": 0}
