"""One request to one replica: its answer is passed on, or said to have failed before a byte of it was."""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
import structlog
from yarl import URL

from quantry_core.routes import RoutedReplica
from quantry_gateway.answers import holds_error
from quantry_gateway.balancer import Balancer, Turn
from quantry_gateway.events import EventBoundary
from quantry_gateway.exchange import Answer
from quantry_gateway.headers import RawHeaders, forwarded_response_headers
from quantry_gateway.openai_errors import OpenAIError, no_sockets, upstream_failed, upstream_timeout
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.records import Record
from quantry_gateway.spans import asking
from quantry_telemetry.traces import trace_headers

FAULTY_STATUSES = frozenset({500, 502, 503, 504})
"""What another replica may answer better."""

_OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""Connections fail so where this machine has no more of them to give: no fault of the replica."""

_PIECE_BYTES = 256 * 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReplicaRequest:
    """What is passed on of a client's request: the bytes of its body as they are, and no credentials."""

    path: str
    content_type: str
    body: bytes
    request_id: bytes
    is_streaming: Callable[[], bool]


class NotAnswered(Exception):
    """No byte was passed on: the request may be asked of another replica."""

    def __init__(self, why: str, *, quoted: str = "") -> None:
        super().__init__(why)
        self.why = why
        # The engine's words may repeat the prompt. They are for the client, and for no log.
        self._quoted = quoted

    def error(self) -> OpenAIError:
        """Returns what the client is told where no other replica answers either."""
        return upstream_failed(f"{self.why}: {self._quoted}" if self._quoted else self.why)

    async def send(self, answer: Answer) -> None:
        """Answers the client with it."""
        await self.error().send(answer)


class Refused(NotAnswered):
    """The replica took no connection."""


class Dropped(NotAnswered):
    """The replica took the request and broke off."""


class TimedOut(NotAnswered):
    """The replica took the request and said nothing."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it sent nothing for {seconds:g} seconds")
        self._seconds = seconds

    def error(self) -> OpenAIError:
        return upstream_timeout(self._seconds)


class Faulty(NotAnswered):
    """The replica answered with a status of FAULTY_STATUSES, which is kept: it is passed on where there is nothing better."""

    def __init__(self, status: int, headers: RawHeaders, body: bytes) -> None:
        super().__init__(f"it answered with status {status}")
        self.status = status
        self._headers = headers
        self._body = body

    async def send(self, answer: Answer) -> None:
        await answer.whole(self.status, self._headers, self._body)


@dataclass(frozen=True, slots=True)
class _Begun:
    """An answer of which enough is here to know that it is one: the whole body, or the first events of a stream."""

    response: aiohttp.ClientResponse
    headers: RawHeaders
    data: bytes
    events: EventBoundary | None
    """Of a stream."""


class ReplicaCaller:
    """Sends requests to replicas over one session's kept connections, and tells the balancer how they do."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        balancer: Balancer,
        *,
        first_event_timeout_s: float,
        idle_timeout_s: float,
        retry_after_s: int,
    ) -> None:
        self._session = session
        self._balancer = balancer
        self._first_event_timeout_s = min(first_event_timeout_s, idle_timeout_s)
        self._idle_timeout_s = idle_timeout_s
        self._retry_after_s = retry_after_s

    async def ask(self, turn: Turn, request: ReplicaRequest, answer: Answer, record: Record) -> None:
        """Passes a replica's answer on, to its end, and notes how that went.

        Raises NotAnswered where it failed before a byte was passed on, OpenAIError where no other could do better. A later failure
        is an error event at the end of the stream.
        """
        record.num_tries += 1
        with asking(turn.replica, request.path, record):
            await self._ask(turn, request, answer, record)

    async def _ask(self, turn: Turn, request: ReplicaRequest, answer: Answer, record: Record) -> None:
        try:
            begun = await self._begin(turn.replica, request)
        except NotAnswered as failure:
            is_ejected = self._balancer.failed(turn, at_once=isinstance(failure, Refused))
            cause = "" if failure.__cause__ is None else f": {failure.__cause__}"
            _log_failure(turn, request, failure.why + cause, is_ejected=is_ejected)
            raise
        self._balancer.answering(turn)
        try:
            if begun.events is None:
                record.whole(begun.response.status, begun.data)
                await answer.whole(begun.response.status, begun.headers, begun.data)
            else:
                broken = await self._stream(begun, begun.events, answer, record)
                if broken is not None:
                    _log_failure(turn, request, broken.message, is_ejected=self._balancer.broke_off(turn))
                    return
            self._balancer.succeeded(turn)
        finally:
            # A fully read connection went back to be kept; any other is cut, which is how an engine learns to stop.
            begun.response.close()

    async def _begin(self, replica: RoutedReplica, request: ReplicaRequest) -> _Begun:
        try:
            # The session's own time-out is that between two pieces; a stream's first event may have less.
            async with asyncio.timeout(None) as patience:
                timer = asyncio.get_running_loop().call_later(self._first_event_timeout_s, _end_of_stream, request, patience)
                try:
                    response = await self._post(replica, request)
                    return await _read_beginning(response)
                finally:
                    timer.cancel()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and error.errno in _OWN_LIMITS:
                raise no_sockets(self._retry_after_s) from error
            raise Refused("it takes no connections") from error
        except TimeoutError as error:
            raise TimedOut(self._first_event_timeout_s if patience.expired() else self._idle_timeout_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Dropped("it broke off before it answered") from error

    async def _post(self, replica: RoutedReplica, request: ReplicaRequest) -> aiohttp.ClientResponse:
        headers = {
            "content-type": request.content_type,
            "content-length": str(len(request.body)),
            # An engine makes its answer's id of it, and a client's own may come twice.
            "x-request-id": f"{request.request_id.decode()}-{secrets.token_hex(4)}",
            **trace_headers(),
        }
        body = request.body if len(request.body) < _PIECE_BYTES else _pieces(request.body)
        # A redirect would lead the gateway wherever an engine says.
        return await self._session.post(_target(replica.url, request.path), data=body, headers=headers, allow_redirects=False)

    async def _stream(self, begun: _Begun, events: EventBoundary, answer: Answer, record: Record) -> OpenAIError | None:
        """Passes a stream on and ends it; returns the error that is its last event where the replica did not finish it."""
        record.began_stream(begun.data)
        # The field tells a proxy in front of this one not to collect events.
        await answer.stream(begun.response.status, [*begun.headers, (b"x-accel-buffering", b"no")])
        failure = upstream_failed("it ended its answer without finishing it")
        try:
            record.passed(begun.data)
            await answer.piece(begun.data)
            async for chunk in begun.response.content.iter_any():
                if whole := events.feed(chunk):
                    record.passed(whole)
                    await answer.piece(whole)
        except TimeoutError:
            failure = upstream_timeout(self._idle_timeout_s)
        except (aiohttp.ClientError, OSError):
            failure = upstream_failed("it broke off in the middle of its answer")
        if events.saw_done:
            # Whatever became of the connection after that: the answer is complete.
            record.ended_stream()
            await answer.end()
            return None
        record.kind = OutcomeKind.FAILED
        await answer.end(failure.event())
        return failure


def _log_failure(turn: Turn, request: ReplicaRequest, why: str, *, is_ejected: bool) -> None:
    _log.warning(
        "replica.ejected" if is_ejected else "replica.failed",
        replica=turn.replica.id,
        url=turn.replica.url,
        why=why,
        request_id=request.request_id.decode(),
    )


def _end_of_stream(request: ReplicaRequest, patience: asyncio.Timeout) -> None:
    """Ends the patience with a stream that has not begun. Whether it is one is looked at only now: that takes a while."""
    if request.is_streaming():
        patience.reschedule(asyncio.get_running_loop().time())


async def _read_beginning(response: aiohttp.ClientResponse) -> _Begun:
    """Returns the beginning of an answer; raises NotAnswered where it is that of a failure. The response is closed then."""
    try:
        return await _beginning(response)
    except BaseException:
        response.close()
        raise


async def _beginning(response: aiohttp.ClientResponse) -> _Begun:
    # Of a stream too: an error event may have to follow what its length counts.
    headers = [field for field in forwarded_response_headers(response.raw_headers) if field[0] != b"content-length"]
    if response.content_type == "text/event-stream" and response.status not in FAULTY_STATUSES:
        events = EventBoundary()
        async for chunk in response.content.iter_any():
            if first := events.feed(chunk):
                if holds_error(first):
                    raise Dropped("it began with an error", quoted=first[:300].decode(errors="replace").strip())
                return _Begun(response, headers, first, events)
        raise Dropped("it ended its answer before it began")
    body = await response.read()
    if response.status in FAULTY_STATUSES:
        raise Faulty(response.status, headers, body)
    return _Begun(response, headers, body, None)


@lru_cache(maxsize=1024)
def _target(url: str, path: str) -> URL:
    return URL(url + path, encoded=True)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
