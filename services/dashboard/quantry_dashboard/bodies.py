"""What a request's body may be: small forms, and the one upload that is streamed."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quantry_core.errors import BodyStalled
from quantry_dashboard import uploads
from quantry_telemetry.connections import ConnectionSettings
from quantry_telemetry.slow_bodies import BodyPace

MAX_BODY_BYTES = 1024**2
"""Of a form, or of the messages of a page that has no socket. An upload has a bound of its own."""


class BoundedBodies:
    """The dashboard's application, which is told 413 of a body that is too long, and 408 of one that keeps it waiting."""

    def __init__(self, app: ASGIApp, connections: ConnectionSettings) -> None:
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one request; sockets and the life of the application pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] == uploads.PATH
        wait_s = self._connections.http_body_stall_s if is_upload else self._connections.http_body_timeout_s
        pace = BodyPace(wait_s=wait_s, is_streamed=is_upload)
        # How long an upload may be is said by its own page, in its own words.
        max_bytes = None if is_upload else MAX_BODY_BYTES
        declared = Headers(scope=scope).get("content-length", "")
        num_bytes = int(declared) if declared.isdecimal() else 0
        num_read = 0
        has_ended = has_begun = False

        async def bounded() -> Message:
            nonlocal num_read, has_ended
            if has_ended or has_begun:
                return await receive()
            if max_bytes is not None and num_bytes > max_bytes:
                raise _too_large(max_bytes)
            try:
                message = await pace.next(receive)
            except BodyStalled as error:
                raise HTTPException(error.status, error.detail, {"Connection": "close"}) from None
            num_read += len(message.get("body", b""))
            has_ended = not message.get("more_body", False)
            if max_bytes is not None and num_read > max_bytes:
                raise _too_large(max_bytes)
            return message

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, bounded, send_and_note)
        except HTTPException as error:
            # What reads bodies without FastAPI knows nothing of these.
            if has_begun:
                raise
            await PlainTextResponse(error.detail, error.status_code, error.headers)(scope, receive, send)


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request to this address has at most {max_bytes} bytes")
