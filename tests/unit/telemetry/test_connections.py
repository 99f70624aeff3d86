"""What one connection may do, on a transport that only remembers, with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from quantry_telemetry.connections import LINGER_S, ConnectionSettings, protocol_within

BOUNDS = ConnectionSettings(
    http_head_timeout_s=20, http_max_head_bytes=8192, http_body_timeout_s=30, http_body_stall_s=40, http_read_stall_s=50
)
GET = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"


class Timer:
    def __init__(self, at_s: float, call: Callable[[], None]) -> None:
        self.at_s = at_s
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Clock:
    """The part of an event loop that a protocol uses. Tasks run in the real one."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Timer] = []

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now_s + delay_s, call))
        return self.timers[-1]

    def create_task(self, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(coroutine)

    def pass_s(self, seconds: float) -> None:
        """Moves on, and calls what is due."""
        until_s = self.now_s + seconds
        while due := [timer for timer in self.timers if timer.call is not None and timer.at_s <= until_s]:
            timer = min(due, key=lambda one: one.at_s)
            self.now_s, call = timer.at_s, timer.call
            self.timers.remove(timer)
            assert call is not None
            call()
        self.now_s = until_s


class Transport:
    """Keeps what is written; ``num_pending`` is what its client has not taken."""

    def __init__(self) -> None:
        self.written = b""
        self.num_pending = 0
        self.is_closed = self.is_aborted = self.has_eof = self.is_paused = False

    def get_extra_info(self, _name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.num_pending

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_eof = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Connection:
    """A connection to an application that takes a body whole and answers with its length, and which fields there were."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.transport = Transport()
        self.asked: list[Scope] = []
        self.answers = asyncio.Event()
        self.answers.set()
        config = Config(
            self._app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            ws="none",
            interface="asgi3",
        )
        config.load()
        make = cast(Any, protocol_within(BOUNDS))
        self.protocol = make(config=config, server_state=ServerState(), app_state={}, _loop=self.clock)
        self.protocol.connection_made(self.transport)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope)
        num_bytes, more = 0, scope["path"] != "/unread"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            num_bytes, more = num_bytes + len(message["body"]), message["more_body"]
        await self.answers.wait()
        body = b"%d" % num_bytes
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def send(self, data: bytes) -> None:
        """Sends bytes and lets the application run."""
        self.protocol.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def status(self) -> int:
        """Of the last answer."""
        return int(re.findall(rb"HTTP/1\.1 (\d{3})", self.transport.written)[-1])

    @property
    def problem(self) -> str:
        """Type of the last answer, which is a problem document."""
        return str(json.loads(self.transport.written.rpartition(b"\r\n\r\n")[2])["type"]).removeprefix("urn:quantry:problem:")


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    made = Connection()
    yield made
    made.answers.set()
    made.protocol.connection_lost(None)
    await asyncio.sleep(0)


async def test_a_head_that_does_not_come_to_its_end_is_408(connection: Connection) -> None:
    await connection.send(b"GET /x HTTP/1.1\r\nx: ")
    for _ in range(19):
        connection.clock.pass_s(1)
        await connection.send(b"a")
    assert connection.transport.written == b""
    connection.clock.pass_s(1.5)
    assert (connection.status, connection.problem) == (408, "head-timeout")
    assert connection.transport.has_eof
    await connection.send(GET)
    connection.clock.pass_s(LINGER_S)
    assert connection.transport.is_aborted
    assert connection.asked == []


async def test_the_time_of_a_later_head_begins_with_its_first_byte(connection: Connection) -> None:
    await connection.send(GET)
    assert connection.status == 200
    connection.clock.pass_s(4)
    await connection.send(b"\r\n" + GET[:10])
    connection.clock.pass_s(19)
    assert not connection.transport.is_closed
    await connection.send(GET[10:])
    assert len(connection.asked) == 2
    await connection.send(GET[:10])
    connection.clock.pass_s(20)
    assert (connection.status, connection.problem) == (408, "head-timeout")


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_connection_that_asks_nothing_is_closed_without_a_word(connection: Connection, sent: bytes) -> None:
    if sent:
        await connection.send(GET)
        connection.transport.written = b""
        await connection.send(sent)
    connection.clock.pass_s(20)
    assert (connection.transport.is_closed, connection.transport.written) == (True, b"")


async def test_a_request_that_is_worked_on_has_all_the_time_it_needs(connection: Connection) -> None:
    connection.answers.clear()
    await connection.send(GET)
    connection.clock.pass_s(10_000)
    assert not connection.transport.is_closed
    connection.answers.set()
    await connection.send(b"")
    assert connection.status == 200
    assert [timer for timer in connection.clock.timers if timer.call is not None and timer.at_s > 10_006] == []


@pytest.mark.parametrize("num_reads", [1, 5])
async def test_a_head_that_is_too_large_is_431_in_one_piece_or_many(connection: Connection, num_reads: int) -> None:
    head = b"GET /x HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (number, b"a" * 100) for number in range(100)) + b"\r\n"
    size = len(head) // num_reads + 1
    for start in range(0, len(head), size):
        await connection.send(head[start : start + size])
    assert (connection.status, connection.problem) == (431, "head-too-large")
    assert connection.asked == []


async def test_an_address_counts_too(connection: Connection) -> None:
    await connection.send(b"GET /" + b"x" * 9000)
    assert connection.status == 431


async def test_a_body_counts_to_no_head(connection: Connection) -> None:
    body = b"x" * 20_000
    await connection.send(b"POST /x HTTP/1.1\r\ncontent-length: 20000\r\n\r\n" + body[:9000])
    await connection.send(body[9000:])
    assert connection.transport.written.endswith(b"20000")
    await connection.send(b"POST /x HTTP/1.1\r\ncontent-length: 20000\r\n\r\n" + body + GET[:9])
    await connection.send(GET[9:])
    assert len(connection.asked) == 3


@pytest.mark.parametrize("flood", [b"0\r\nx: " + b"a" * 9000, b"1;x=" + b"a" * 9000, b"0\r\n" + b"a: b\r\n" * 2000])
async def test_what_is_neither_head_nor_body_is_bounded_as_a_head(connection: Connection, flood: bytes) -> None:
    await connection.send(b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
    await connection.send(flood)
    assert (connection.status, connection.problem) == (431, "head-too-large")


async def test_trailers_are_no_fields_of_their_request(connection: Connection) -> None:
    await connection.send(b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nauthorization: Bearer a\r\n\r\n")
    assert connection.status == 200
    assert connection.asked[0]["headers"] == [(b"transfer-encoding", b"chunked")]


async def test_what_is_no_http_is_a_problem(connection: Connection) -> None:
    await connection.send(b"hello\r\n\r\n")
    assert (connection.status, connection.problem) == (400, "malformed-request")


async def test_nothing_is_written_into_the_answer_of_another_request(connection: Connection) -> None:
    connection.answers.clear()
    await connection.send(GET)
    await connection.send(b"GET /" + b"x" * 9000)
    assert (connection.transport.is_aborted, connection.transport.written) == (True, b"")


async def test_the_rest_of_a_body_that_nobody_wants_is_not_read_for_ever(connection: Connection) -> None:
    await connection.send(b"POST /unread HTTP/1.1\r\ncontent-length: 100\r\n\r\nx")
    assert connection.status == 200
    for _ in range(15):
        connection.clock.pass_s(3)
        await connection.send(b"x")
    assert connection.transport.is_closed


async def test_a_client_that_takes_nothing_is_cut_off(connection: Connection) -> None:
    connection.answers.clear()
    await connection.send(GET)
    connection.transport.num_pending = 70_000
    connection.protocol.pause_writing()
    connection.clock.pass_s(49)
    connection.transport.num_pending = 60_000
    connection.clock.pass_s(2)
    assert not connection.transport.is_aborted  # slow, but it reads
    connection.transport.num_pending = 59_999
    connection.clock.pass_s(50)
    assert connection.transport.is_aborted


async def test_a_stream_that_waits_for_its_next_event_is_never_cut_off(connection: Connection) -> None:
    connection.answers.clear()
    await connection.send(GET)
    connection.transport.num_pending = 70_000
    connection.protocol.pause_writing()
    connection.transport.num_pending = 0
    connection.protocol.resume_writing()
    connection.clock.pass_s(10_000)
    assert not connection.transport.is_closed


async def test_the_last_bytes_of_a_closed_connection_are_not_kept_for_ever(connection: Connection) -> None:
    connection.transport.num_pending = 1000
    await connection.send(b"GET /x HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert connection.transport.is_closed
    connection.clock.pass_s(50)
    assert connection.transport.is_aborted
