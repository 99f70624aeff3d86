"""One HTTP exchange with a client: the request as it arrives, the answer as it leaves, in ASGI's messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from starlette.types import Receive, Scope, Send

from quantry_core.errors import PROBLEM_CONTENT_TYPE, QuantryError
from quantry_gateway.headers import RawHeaders, request_id
from quantry_telemetry.slow_bodies import BodyPace

RELEASE_FIELD = b"x-quantry-release"
"""Of an answer: the number of the release that gave it."""

_WATCH_AFTER_S = 0.02
"""A client that leaves earlier is noticed then."""


class ClientGone(Exception):
    """The client closed its connection before its request was complete."""


class BodyTooLarge(Exception):
    """The body has more bytes than are allowed."""


class BodyWait(NamedTuple):
    """How long a client may keep the gateway waiting for its body, in seconds."""

    whole_s: float = 60.0
    """Of a body that is read whole."""
    stall_s: float = 60.0
    """For a few bytes of one that is passed on as it comes."""


_USUAL_WAIT = BodyWait()


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head, and its body as it arrives."""

    method: str
    raw_path: bytes
    path: str
    query: bytes
    headers: RawHeaders
    scheme: str
    client: str
    id: bytes
    receive: Receive
    body_wait: BodyWait
    _body_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, scope: Scope, receive: Receive, body_wait: BodyWait = _USUAL_WAIT) -> Request:
        """Returns the request of an ASGI scope."""
        client = scope.get("client")
        return cls(
            method=scope["method"],
            raw_path=scope["raw_path"],
            path=scope["path"],
            query=scope["query_string"],
            headers=scope["headers"],
            scheme=scope["scheme"],
            client=str(client[0]) if client else "unknown",
            id=request_id(scope["headers"]),
            receive=receive,
            body_wait=body_wait,
        )

    def chunks(self) -> AsyncIterator[bytes]:
        """Yields the body. Raises ClientGone if it breaks off, so that half a body is never passed on as a whole one, and BodyStalled
        if it stops coming."""
        return self._chunks(BodyPace(wait_s=self.body_wait.stall_s, is_streamed=True))

    async def _chunks(self, pace: BodyPace) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await pace.next(self.receive)
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if body := message.get("body", b""):
                yield body
        self._body_ended.set()

    async def body(self, *, declared_bytes: int | None, max_bytes: int) -> bytes:
        """Returns the whole body; raises BodyTooLarge as soon as that is known, ClientGone if it breaks off, BodyStalled if it is slow."""
        if declared_bytes is not None and declared_bytes > max_bytes:
            raise BodyTooLarge
        pieces: list[bytes] = []
        size_bytes = 0
        async for piece in self._chunks(BodyPace(wait_s=self.body_wait.whole_s, is_streamed=False)):
            size_bytes += len(piece)
            if size_bytes > max_bytes:
                raise BodyTooLarge
            pieces.append(piece)
        return b"".join(pieces)

    async def run_while_connected(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs ``work`` to its end, or cancels it and waits for its clean-up once the client has gone.

        ``work`` (or the caller before it) must read the body: a client's leaving is seen only after that.
        """
        watch = _Watch(self._gone)
        try:
            await work
        except asyncio.CancelledError:
            if not watch.takes_back():
                raise
        finally:
            watch.stop()

    async def _gone(self) -> None:
        await self._body_ended.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass


class _Watch:
    """Cancels the task that makes it once ``gone`` ends. Nearly every answer but a stream is over before it costs a task."""

    def __init__(self, gone: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # Only in a task is there something to cancel; a server runs each request in one.
        self._working = cast("asyncio.Task[Any]", asyncio.current_task())
        self._num_before = self._working.cancelling()
        self._gone = gone
        self._has_cancelled = False
        self._is_over = False
        self._watching: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._begin)

    def takes_back(self) -> bool:
        """Tells whether the cancellation came from here alone, and takes it back."""
        return self._has_cancelled and self._working.uncancel() <= self._num_before

    def stop(self) -> None:
        """Ends the watch."""
        self._is_over = True
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def _begin(self) -> None:
        self._watching = asyncio.create_task(self._gone())
        self._watching.add_done_callback(self._end)

    def _end(self, watching: asyncio.Task[None]) -> None:
        if not (self._is_over or watching.cancelled()):
            self._has_cancelled = True
            self._working.cancel()


class Answer:
    """The answer to one request. Every head carries the request's id."""

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False
        self.status: int | None = None
        """Of the head, once that was sent."""
        self.is_open_stream = False
        """Events have been or may be passed on, and more may follow."""
        self.release_number: int | None = None
        """Of the release that answers, once that is known; then the head carries it too."""
        self.limit_fields: RawHeaders = []
        """What the key has left, where it has limits: the head carries them."""
        self.closes = False
        """The connection is of no use after it: its request never came to an end."""

    async def head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Sends status and fields; the body follows by ``piece`` and ``end``."""
        self.started = True
        self.status = status
        fields = [*headers, *self.limit_fields, (b"x-request-id", self._request_id)]
        if self.release_number is not None:
            fields.append((RELEASE_FIELD, b"%d" % self.release_number))
        if self.closes:
            fields.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def stream(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Sends status and fields of a body of events: until its end, an error can be one more of them."""
        await self.head(status, headers)
        self.is_open_stream = True

    async def piece(self, data: bytes) -> None:
        """Sends some bytes of a body that goes on."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Sends the last bytes of a body and ends it."""
        self.is_open_stream = False
        await self._send({"type": "http.response.body", "body": data})

    async def whole(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Sends an answer whose body is at hand."""
        await self.head(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.end(body)

    async def json(self, document: dict[str, Any]) -> None:
        """Sends a document with status 200."""
        await self.whole(200, [(b"content-type", b"application/json")], json.dumps(document, separators=(",", ":")).encode())

    async def problem(self, error: QuantryError, *, instance: str, retry_after_s: int | None = None) -> None:
        """Sends an error as an RFC 9457 problem document."""
        headers: RawHeaders = [(b"content-type", PROBLEM_CONTENT_TYPE.encode())]
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % retry_after_s))
        await self.whole(error.status, headers, error.problem(instance).model_dump_json().encode())
