"""One request to a replica: tried on the next one until the first byte, then streamed as it comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import structlog
from yarl import URL

from quantry_core.rollouts import RoutedReplica
from quantry_gateway.balancer import Balancer
from quantry_gateway.events import EventBoundary
from quantry_gateway.exchange import Answer
from quantry_gateway.headers import forwarded_response_headers
from quantry_gateway.openai_errors import OpenAIError, shutting_down, upstream_failed, upstream_timeout

MAX_DROPPED = 2
"""Replicas that may break off over one request before the request itself is the suspect."""

_AWAY_STATUSES = frozenset({502, 503, 504})
_PIECE_BYTES = 256 * 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReplicaRequest:
    """What is passed on of a client's request: the bytes of its body as they are, and no credentials."""

    path: str
    content_type: str
    body: bytes
    request_id: bytes


class _Dropped(Exception):
    """The replica took the request and broke off before a byte of its answer was passed on."""


class ReplicaCaller:
    """Sends requests to replicas over one session's kept connections."""

    def __init__(self, session: aiohttp.ClientSession, balancer: Balancer, *, idle_timeout_s: float) -> None:
        self._session = session
        self._balancer = balancer
        self._idle_timeout_s = idle_timeout_s

    async def call(self, replicas: list[RoutedReplica], request: ReplicaRequest, answer: Answer) -> None:
        """Answers the client from the best replica that can; raises OpenAIError if none could.

        The next replica is tried where one takes no connection, breaks off before its answer, or says that it is away.
        Once a byte of an answer has been passed on, its failure is an error event, never another replica.
        """
        waiting = deque(self._balancer.order(replicas))
        num_dropped = 0
        failure = "there was no replica to try"
        while waiting:
            replica = waiting.popleft()
            try:
                with self._balancer.serving(replica.id):
                    if await self._try(replica, request, answer, is_last=not waiting):
                        return
                failure = "it is not ready"
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                self._balancer.set_aside(replica.id)
                failure = "it takes no connections"
                _log.warning("replica.refused", replica=replica.id, url=replica.url, error=str(error))
            except _Dropped as error:
                failure = "it broke off before it answered"
                _log.warning("replica.dropped", replica=replica.id, url=replica.url, error=str(error.__cause__))
                num_dropped += 1
                if num_dropped == MAX_DROPPED:
                    break
                # A kept connection may have been closed just as it was used: a lone replica gets a second chance.
                waiting = waiting or deque([replica])
        raise upstream_failed(failure)

    async def _try(self, replica: RoutedReplica, request: ReplicaRequest, answer: Answer, *, is_last: bool) -> bool:
        """Returns True once the client has its answer, False if another replica should be asked."""
        response = await self._open(replica, request)
        try:
            if response.status in _AWAY_STATUSES and not is_last:
                return False
            if response.content_type == "text/event-stream":
                await self._stream(response, request, answer)
            else:
                await self._pass_whole(response, answer)
            return True
        finally:
            # A fully read connection went back to be kept; any other is cut, which is how an engine learns to stop.
            response.close()

    async def _open(self, replica: RoutedReplica, request: ReplicaRequest) -> aiohttp.ClientResponse:
        headers = {"content-type": request.content_type, "content-length": str(len(request.body))}
        body = request.body if len(request.body) < _PIECE_BYTES else _pieces(request.body)
        try:
            # A redirect would lead the gateway wherever an engine says.
            return await self._session.post(
                URL(replica.url + request.path, encoded=True), data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except TimeoutError as error:
            raise upstream_timeout(self._idle_timeout_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Dropped from error

    async def _pass_whole(self, response: aiohttp.ClientResponse, answer: Answer) -> None:
        try:
            body = await response.read()
        except TimeoutError as error:
            raise upstream_timeout(self._idle_timeout_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Dropped from error
        headers = forwarded_response_headers(response.raw_headers)
        await answer.whole(response.status, [field for field in headers if field[0] != b"content-length"], body)

    async def _stream(self, response: aiohttp.ClientResponse, request: ReplicaRequest, answer: Answer) -> None:
        headers = forwarded_response_headers(response.raw_headers)
        # Tells a proxy in front of this one not to collect events.
        await answer.head(response.status, [*headers, (b"x-accel-buffering", b"no")])
        events = EventBoundary()
        try:
            async for chunk in response.content.iter_any():
                if whole := events.feed(chunk):
                    await answer.piece(whole)
        except asyncio.CancelledError:
            # The client has gone (then this is sent to nobody) or the gateway stops.
            await answer.end(shutting_down().event())
            raise
        except TimeoutError:
            await self._end_broken(answer, request, upstream_timeout(self._idle_timeout_s))
        except (aiohttp.ClientError, OSError):
            await self._end_broken(answer, request, upstream_failed("it broke off in the middle of its answer"))
        else:
            if events.saw_done:
                await answer.end()
            else:
                await self._end_broken(answer, request, upstream_failed("it ended its answer without finishing it"))

    async def _end_broken(self, answer: Answer, request: ReplicaRequest, error: OpenAIError) -> None:
        _log.warning("stream.broken", code=error.code, error=error.message, request_id=request.request_id.decode())
        await answer.end(error.event())


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
