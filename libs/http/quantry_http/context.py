"""What surrounds every request: its id, its log line, and the last catch of what nobody expected."""

from __future__ import annotations

import asyncio
import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quantry_core.errors import Unavailable
from quantry_http.problems import internal_problem, problem_response

REQUEST_ID_HEADER = "X-Request-Id"
QUIET_PATHS = frozenset({"/healthz"})
"""Asked every second by supervisors: logged only when they fail."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_log = structlog.get_logger(__name__)


class RequestContextMiddleware:
    """Binds a request id to the logs and the answer, logs one line per request, and turns a crash into a 500 problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        started = time.monotonic()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
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
        except Exception:
            _log.exception("request crashed", method=scope["method"], path=scope["path"])
            if status is not None:
                raise  # half an answer is out: only closing the connection tells the client
            await problem_response(internal_problem(scope["path"], request_id))(scope, receive, send_with_id)
        finally:
            if status is None or status >= 400 or scope["path"] not in QUIET_PATHS:
                duration_ms = round((time.monotonic() - started) * 1000, 1)
                _log.info("request", method=scope["method"], path=scope["path"], status=status, duration_ms=duration_ms)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex
