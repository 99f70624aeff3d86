"""How long clients may keep a server waiting, and how much of a request's head it reads: one connection's bounds, for every service.

uvicorn waits for a head for ever, reads one of any size, and keeps what a client does not take until the client goes. It has no settings
for these, so its protocol is extended here. Nothing is done for each piece of a body or an answer but to count its bytes.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import struct
import termios
from http import HTTPStatus
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import override
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from quantry_core.errors import PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX, Problem

LINGER_S = 2.0
"""After a refusal, so that a client that is still sending gets to read it: what it sends meanwhile is thrown away."""
MIN_TAKEN_BYTES = 4096
"""A client that takes less of an answer between two looks has stopped reading."""

_log = logging.getLogger(__name__)


class ConnectionSettings(BaseSettings):
    """``QUANTRY_HTTP_HEAD_TIMEOUT_S`` and so on: the same names for every service that listens."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    http_head_timeout_s: float = Field(default=20.0, gt=0, description="A request's head that is not whole by then is answered 408.")
    http_max_head_bytes: int = Field(default=64 * 1024, ge=8 * 1024, description="Of a request line with all its fields; 431 beyond.")
    http_body_timeout_s: float = Field(
        default=60.0, gt=0, description="A body that is read whole, such as JSON, may keep its reader waiting so long in all; then 408."
    )
    http_body_stall_s: float = Field(
        default=60.0,
        gt=0,
        description="A body that is passed on as it comes may keep its reader waiting so long for a few bytes; then 408.",
    )
    http_read_stall_s: float = Field(default=60.0, gt=0, description="A client that takes nothing of its answer for so long is cut off.")


def protocol_within(settings: ConnectionSettings) -> type[asyncio.Protocol]:
    """Returns the class that uvicorn is to make of each connection: ``uvicorn.Config(http=...)``."""

    class Bounded(BoundedProtocol):
        bounds = settings

    return Bounded


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Two timers, each set only while it may be needed: for what the client owes, and for what it does not take."""

    bounds: ConnectionSettings

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._is_in_head = False
        self._is_in_message = False
        # No request is read from it any more: it was refused, or it is a WebSocket now.
        self._is_over = False
        self._num_read = 0
        # Since the message began, or since the last piece of its body: a head, the trailers, the extensions of chunks.
        self._num_beside_body = 0
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._num_pending = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_more(self.bounds.http_head_timeout_s)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._expect_nothing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._num_read = len(data)
        self._num_beside_body += len(data)
        super().data_received(data)
        self._look_at_rest()

    def _look_at_rest(self) -> None:
        """Refuses what is too much, and sets or takes back the time for what is still to come."""
        if self._is_over:
            return
        if self._num_beside_body > self.bounds.http_max_head_bytes:
            self._refuse_head()
        elif self.cycle is None or self.cycle.response_complete:
            # A head that has begun; or the rest of a body that nobody wants any more, which uvicorn would read for ever.
            if self._late is None:
                self._expect_more(
                    self.bounds.http_body_stall_s if self._is_in_message and not self._is_in_head else self.bounds.http_head_timeout_s
                )
        elif self._late is not None:
            self._expect_nothing()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = self._is_in_message = True
        # All that was read counts, though something may have come before it; but not where that was another message.
        self._num_beside_body = self._num_read

    @override
    def on_headers_complete(self) -> None:
        if self._is_over:
            return
        if self._num_beside_body > self.bounds.http_max_head_bytes and self._head_bytes() > self.bounds.http_max_head_bytes:
            self._refuse_head()
            return
        self._is_in_head = False
        self._num_beside_body = 0
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            # The request has its own list. What comes later are trailers, which must be no fields of a request that is under way.
            self.headers = _Dropped()

    @override
    def on_body(self, body: bytes) -> None:
        if self._is_over:
            return
        self._num_read = self._num_beside_body = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._is_in_message = False
        if self._is_over:
            return
        self._num_read = self._num_beside_body = 0
        # What comes next has its own time.
        self._expect_nothing()
        super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._linger()

    @override
    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._linger()

    @override
    def handle_websocket_upgrade(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._expect_nothing()
        super().handle_websocket_upgrade()

    @override
    def send_400_response(self, msg: str) -> None:
        if not self._is_over:
            self._refuse(HTTPStatus.BAD_REQUEST, "malformed-request", "The request cannot be read", "this is no HTTP/1.1 request")

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        # While it is being closed, its last bytes must be taken too.
        if self._stalled is not None and not self.transport.is_closing():
            self._stalled.cancel()
            self._stalled = None

    def _expect_more(self, within_s: float) -> None:
        self._late = self.loop.call_later(within_s, self._on_late)

    def _expect_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _on_late(self) -> None:
        self._late = None
        if self.transport.is_closing():
            return
        if self._is_in_head:
            detail = f"the head of a request must be here {self.bounds.http_head_timeout_s:g} s after it began"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "head-timeout", "The request's head did not come in time", detail)
        else:
            # Nothing was asked: there is nothing to answer.
            self._is_over = True
            self.transport.close()
            self._linger()

    def _refuse_head(self) -> None:
        detail = f"a request line with all its fields has at most {self.bounds.http_max_head_bytes} bytes"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The request's head is too large", detail)

    def _refuse(self, status: HTTPStatus, slug: str, title: str, detail: str) -> None:
        """Says no and closes, or only closes where an answer to another request is under way."""
        self._is_over = True
        self._expect_nothing()
        self._unset_keepalive_if_required()
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and (self._is_in_head or self.cycle.response_started):
            self.transport.abort()
            return
        _log.info("request refused: %s", slug, extra={"client": self.client})
        problem = Problem(type=PROBLEM_TYPE_PREFIX + slug, title=title, status=status, detail=detail)
        body = json.dumps(problem.model_dump()).encode()
        head = f"content-type: {PROBLEM_CONTENT_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + body)
        if is_answering:
            # Its application is told that the client has gone.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)

    def _linger(self) -> None:
        """Watches that the last bytes of a connection that is being closed are taken: a close waits for that without an end."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size() > 0:
            self._watch_reader()

    def _watch_reader(self) -> None:
        if self._stalled is None:
            self._num_pending = _num_pending(self.transport)
            self._stalled = self.loop.call_later(self.bounds.http_read_stall_s, self._on_stalled)

    def _on_stalled(self) -> None:
        self._stalled = None
        if _num_pending(self.transport) <= self._num_pending - MIN_TAKEN_BYTES:
            self._watch_reader()
            return
        _log.info("client cut off: it takes nothing of its answer", extra={"client": self.client})
        self.transport.abort()


class _Dropped(list[tuple[bytes, bytes]]):
    """Takes fields and keeps none."""

    @override
    def append(self, _field: tuple[bytes, bytes], /) -> None:
        """Does nothing."""


def _num_pending(transport: asyncio.Transport) -> int:
    """Returns how many bytes of an answer its client has not acknowledged: the transport's and, where it tells them, the system's.

    The transport's alone would not do: the system asks for more in steps of a megabyte, and an honest slow reader takes minutes for one.
    """
    num_bytes = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None:
        return num_bytes
    try:
        return num_bytes + int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return num_bytes
