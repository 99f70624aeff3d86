"""The limits on a request's body, its length and its time, looked at while it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quantry_core.errors import BodyStalled
from quantry_http.strict_json import NotStrict, check_json
from quantry_telemetry.slow_bodies import BodyPace

DEFAULT_MAX_BODY_BYTES = 4 * 1024**2
"""Of a JSON body. The largest honest one is a finish with a long manifest or 500 log events."""

IDENTITY = "identity"
"""The Content-Encoding of what is as it is."""

_JSON = re.compile(r"\s*application/(?:[^;\s]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_WITHOUT_BODY = frozenset({"GET", "HEAD"})
_SCOPE_KEY = "quantry.body_limit"


class _Limit:
    """What this request's body may be; an endpoint that streams its body may set another limit."""

    def __init__(self, max_bytes: int, *, wait_s: float, stall_s: float) -> None:
        self.max_bytes = max_bytes
        self.stall_s = stall_s
        self.is_streamed = False
        self.pace = BodyPace(wait_s=wait_s, is_streamed=False)


class BodyLimitMiddleware:
    """Answers 413 as soon as a body is declared or found to be longer than its limit; 408 once its client has kept its reader waiting
    for ``wait_s`` seconds, or ``stall_s`` for a few bytes of one that is streamed; 415 for one that is compressed; and 400 for JSON that
    others would read as something else."""

    def __init__(self, app: ASGIApp, max_bytes: int, *, wait_s: float, stall_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._wait_s = wait_s
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _Limit(self._max_bytes, wait_s=self._wait_s, stall_s=self._stall_s)
        headers = Headers(scope=scope)
        declared = _declared_bytes(headers)
        coding = headers.get("content-encoding", IDENTITY) if scope["method"] not in _WITHOUT_BODY else IDENTITY
        is_json = _JSON.match(headers.get("content-type", "")) is not None
        pieces: list[bytes] = []
        num_read = 0
        has_ended = has_begun = False

        async def counted() -> Message:
            nonlocal num_read, has_ended
            if declared > limit.max_bytes:
                raise _too_large(limit)
            if coding.lower() != IDENTITY:
                raise _compressed(coding)
            if has_ended or has_begun:
                # Whoever still asks, perhaps while it answers, waits for the client to go.
                return await receive()
            try:
                message = await limit.pace.next(receive)
            except BodyStalled as error:
                return _given_up(error, is_answering=has_begun)
            body = message.get("body", b"")
            num_read += len(body)
            has_ended = not message.get("more_body", False)
            if num_read > limit.max_bytes:
                raise _too_large(limit)
            if is_json and not limit.is_streamed:
                pieces.append(body)
                if has_ended:
                    _check_json(b"".join(pieces))
            return message

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        scope[_SCOPE_KEY] = limit
        await self._app(scope, counted, send_and_note)


def allow_body(max_bytes: int) -> Callable[[Request], None]:
    """Returns a dependency that sets the body limit of an endpoint which reads ``request.stream()`` itself."""

    def set_limit(request: Request) -> None:
        limit: _Limit = request.scope[_SCOPE_KEY]
        limit.max_bytes = max_bytes
        limit.is_streamed = True
        limit.pace = BodyPace(wait_s=limit.stall_s, is_streamed=True)

    return set_limit


def _declared_bytes(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _given_up(error: BodyStalled, *, is_answering: bool) -> Message:
    if is_answering:
        # Who only looks whether the client is still there need not wait for the rest either.
        return {"type": "http.disconnect"}
    raise HTTPException(error.status, error.detail, {"Connection": "close"})


def _check_json(raw: bytes) -> None:
    try:
        check_json(raw)
    except NotStrict as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body is not JSON that is read here: {error}") from error


def _compressed(coding: str) -> HTTPException:
    return HTTPException(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"bodies are taken as they are, without a Content-Encoding: not {coding[:40]!r}"
    )


def _too_large(limit: _Limit) -> HTTPException:
    # An HTTPException, because the framework lets only that one pass unchanged out of reading a body.
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request to this address has at most {limit.max_bytes} bytes")
