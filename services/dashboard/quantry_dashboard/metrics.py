"""What the dashboard tells Prometheus: its requests, who is signed in, and how many pages are open."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import structlog
from nicegui import Client
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quantry_telemetry.http_metrics import HttpMetrics
from quantry_telemetry.registry import service_registry

REQUEST_ID_HEADER = "x-request-id"
MOUNTS = ("/static", "/_nicegui_ws", "/_nicegui")
"""Addresses below which there are files and sockets, counted together."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def open_pages() -> int:
    """Returns how many pages have a socket now."""
    return sum(client.has_socket_connection for client in list(Client.instances.values()))


def dashboard_registry(num_sessions: Callable[[], int], num_pages: Callable[[], int] = open_pages) -> CollectorRegistry:
    """Returns the registry of a dashboard; both are asked at each scrape, from another thread."""
    registry = service_registry("dashboard")
    registry.register(OpenPages(num_sessions, num_pages))
    return registry


class OpenPages:
    """Sessions and open pages as they are."""

    def __init__(self, num_sessions: Callable[[], int], num_pages: Callable[[], int]) -> None:
        self._num_sessions = num_sessions
        self._num_pages = num_pages

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        yield GaugeMetricFamily("quantry_dashboard_sessions", "Sign-ins that have not ended.", value=self._num_sessions())
        yield GaugeMetricFamily("quantry_dashboard_pages_open", "Pages that are open in a browser.", value=self._num_pages())


class CountedRequests:
    """The dashboard's application, its requests counted. Log lines of a request carry its id."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request; sockets and the life of the application pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None
        head_after_s: float | None = None
        began_s = time.monotonic()

        async def send_and_note(message: Message) -> None:
            nonlocal status, head_after_s
            if message["type"] == "http.response.start":
                status, head_after_s = message["status"], time.monotonic() - began_s
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=_request_id(scope))
        self._metrics.began()
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._metrics.ended(scope["method"], template_of(scope), status, head_after_s)


def template_of(scope: Scope) -> str | None:
    """Returns the template of a request's address; None where there is no such page."""
    mount = next((mount for mount in MOUNTS if scope["path"].startswith(mount)), None)
    return mount if mount is not None else getattr(scope.get("route"), "path", None)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex
