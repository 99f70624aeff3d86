"""What surrounds every request: its id, its span, its log line, what is counted of it, and the last catch of what nobody expected."""

from __future__ import annotations

import asyncio
import re
import time
from uuid import uuid4

import structlog
from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quantry_core.errors import Unavailable
from quantry_core.traces import TRACEPARENT_HEADER, parse_traceparent
from quantry_http.problems import internal_problem, problem_response
from quantry_telemetry.http_metrics import HttpMetrics
from quantry_telemetry.traces import NO_SPAN, Span, SpanKind, is_tracing, span

REQUEST_ID_HEADER = "X-Request-Id"
QUIET_PATHS = frozenset({"/healthz", "/livez", "/metrics"})
"""Asked every few seconds by supervisors and Prometheus: logged only when they fail."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_log = structlog.get_logger(__name__)


class RequestContextMiddleware:
    """Binds a request id to the logs and the answer, logs and counts each request, and turns a crash into a 500 problem.

    A request that comes with a trace context gets a span; one without gets none, for the gateway is where traces begin.
    """

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._templates: dict[object, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()
        traceparent = Headers(scope=scope).get(TRACEPARENT_HEADER) if is_tracing() else None
        if parse_traceparent(traceparent) is None:
            await self._run(scope, receive, send, NO_SPAN)
            return
        with span(scope["method"], kind=SpanKind.SERVER, parent=traceparent) as begun:
            await self._run(scope, receive, send, begun)

    async def _run(self, scope: Scope, receive: Receive, send: Send, begun: Span) -> None:
        request_id = _request_id(scope)
        status: int | None = None
        head_after_s: float | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status, head_after_s
            if message["type"] == "http.response.start":
                status = message["status"]
                head_after_s = time.monotonic() - started
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        started = time.monotonic()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        self._metrics.began()
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            _log.info("client left", method=scope["method"], path=scope["path"])
        except asyncio.CancelledError:
            # The server stops, and its patience with this request has ended. Not raised again: the request's task ends here,
            # and uvicorn would log the cancellation as a failure. It cuts the connection where half an answer is out.
            _log.info("request ended by the stop", method=scope["method"], path=scope["path"])
            if status is None:
                stopping = Unavailable("this service is being stopped; send the request again").problem(scope["path"])
                await problem_response(stopping)(scope, receive, send_with_id)
        except Exception as error:
            _log.exception("request crashed", method=scope["method"], path=scope["path"])
            begun.failed(type(error).__name__)
            if status is not None:
                raise  # half an answer is out: only closing the connection tells the client
            await problem_response(internal_problem(scope["path"], request_id))(scope, receive, send_with_id)
        finally:
            route = self._template_of(scope)
            self._metrics.ended(scope["method"], route, status, head_after_s)
            _tell(begun, scope["method"], route, status)
            if status is None or status >= 400 or scope["path"] not in QUIET_PATHS:
                duration_ms = round((time.monotonic() - started) * 1000, 1)
                job = {"job_id": scope["path_params"]["job_id"]} if "job_id" in scope.get("path_params", {}) else {}
                _log.info("request", method=scope["method"], path=scope["path"], status=status, duration_ms=duration_ms, **job)

    def _template_of(self, scope: Scope) -> str | None:
        """Returns the template of the address that the app found; None where there is no such address."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return None
        if endpoint not in self._templates:
            contexts = iter_route_contexts(scope["app"].routes)
            self._templates = {route.endpoint: route.path_format for route in contexts if route.endpoint is not None and route.path_format}
        return self._templates.get(endpoint)


def _tell(begun: Span, method: str, route: str | None, status: int | None) -> None:
    """Says in a request's span what it was and how it was answered."""
    if begun.context is None:
        return
    begun.rename(f"{method} {route}" if route is not None else method)
    begun.note({"http.request.method": method, "http.route": route or "", "http.response.status_code": status or 0})
    if status is not None and status >= 500:
        begun.failed(str(status))


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex
