"""The limit on a request's body, counted while it is read."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEFAULT_MAX_BODY_BYTES = 4 * 1024**2
"""Of a JSON body. The largest honest one is a finish with a long manifest or 500 log events."""

_SCOPE_KEY = "quantry.body_limit"


class _Limit:
    """How many bytes this request's body may have; an endpoint that streams its body may set another limit."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes


class BodyLimitMiddleware:
    """Answers 413 as soon as a body is declared or found to be longer than its limit."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _Limit(self._max_bytes)
        declared = _declared_bytes(scope)
        num_read = 0

        async def counted() -> Message:
            nonlocal num_read
            if declared > limit.max_bytes:
                raise _too_large(limit)
            message = await receive()
            num_read += len(message.get("body", b""))
            if num_read > limit.max_bytes:
                raise _too_large(limit)
            return message

        scope[_SCOPE_KEY] = limit
        await self._app(scope, counted, send)


def allow_body(max_bytes: int) -> Callable[[Request], None]:
    """Returns a dependency that sets the body limit of an endpoint which reads ``request.stream()`` itself."""

    def set_limit(request: Request) -> None:
        request.scope[_SCOPE_KEY].max_bytes = max_bytes

    return set_limit


def _declared_bytes(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _too_large(limit: _Limit) -> HTTPException:
    # An HTTPException, because the framework lets only that one pass unchanged out of reading a body.
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request to this address has at most {limit.max_bytes} bytes")
