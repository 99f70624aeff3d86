"""What holds for every answer of the dashboard: nothing from elsewhere is loaded, and nothing from elsewhere may act."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# NiceGUI compiles its templates in the browser and starts from an inline script, hence the two "unsafe" sources; what a
# page loads and whom it speaks to is this origin all the same.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SOCKET_PATH = "/_nicegui_ws/"

_NO_ANSWER = "No response returned."
"""What Starlette's BaseHTTPMiddleware, which NiceGUI's middlewares are, raises where the application within ends without an answer. The
long poll of a page's socket does so when its browser has gone."""


class Guard:
    """ASGI middleware: refuses what another site's page sends, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request or passes it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if may_act(scope) and not is_from_here(Headers(scope=scope)):
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            await PlainTextResponse("This request came from another site's page and was refused.\n", 403)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        browser = _Browser(receive)
        try:
            await self._app(scope, browser.receive, send_with_headers)
        except RuntimeError as error:
            # Nobody waits for the answer that there is none of.
            if str(error) != _NO_ANSWER or not await browser.has_gone():
                raise


class _Browser:
    """The receiving side of one request; knows whether who sent it has gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_gone = False

    async def receive(self) -> Message:
        """Returns the next message."""
        message = await self._receive()
        self._has_gone = self._has_gone or message["type"] == "http.disconnect"
        return message

    async def has_gone(self) -> bool:
        """Tells whether the connection is closed; looks at what has arrived, without a wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                while not self._has_gone:
                    await self.receive()
        return self._has_gone


def may_act(scope: Scope) -> bool:
    """Tells whether a request can change something: any but a plain read, and everything that reaches a page's socket."""
    return scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS or scope["path"].startswith(_SOCKET_PATH)


def is_from_here(headers: Headers) -> bool:
    """Tells whether a request comes from a page of this origin, or from no page at all."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
    # Compared as it is: an origin that is none makes urlsplit raise.
    return origin.partition("://")[2] == headers.get("host")
