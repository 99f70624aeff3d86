"""Forwards the control plane, /api/v1/*, /mlflow/* and OpenAI's files and fine-tuning below /v1, to api and registry: every method,
streaming both ways, nothing re-written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import aiohttp
import structlog
from yarl import URL

from quantry_core.errors import BodyStalled, Unavailable
from quantry_core.traces import carried_traceparent
from quantry_gateway.exchange import Answer, ClientGone, Request
from quantry_gateway.headers import RawHeaders, forwarded_request_headers, forwarded_response_headers, header_value
from quantry_gateway.refusals import refuse

MAX_WHOLE_BYTES = 64 * 1024
"""A body up to this size is read whole and passed on with its head, in one piece: that takes a third of the time."""

_log = structlog.get_logger(__name__)


class ControlPlane:
    """Passes requests on to one service, named for people. ``head_timeout_s`` tells how long a request may wait for its answer."""

    def __init__(
        self, session: aiohttp.ClientSession, *, service: str, url: str, head_timeout_s: Callable[[Request], float], retry_after_s: int
    ) -> None:
        self._session = session
        self._head_timeout_s = head_timeout_s
        self._service = service
        self._url = url
        self._retry_after_s = retry_after_s

    async def answer(self, request: Request, answer: Answer) -> None:
        """Answers one request; 503 with Retry-After when the service is away."""
        size_bytes = _declared_bytes(request.headers)
        if size_bytes is None or size_bytes > MAX_WHOLE_BYTES:
            work = self._forward(request, answer, body=request.chunks())
        else:
            # Also where it is empty: it must be read for the client's leaving to be seen.
            work = self._forward(request, answer, body=await request.body(declared_bytes=size_bytes, max_bytes=MAX_WHOLE_BYTES))
        await request.run_while_connected(work)

    async def _forward(self, request: Request, answer: Answer, *, body: AsyncIterator[bytes] | bytes) -> None:
        try:
            response = await self._head(request, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__, ClientGone):
                return
            if isinstance(error.__cause__, BodyStalled):
                raise error.__cause__ from None
            _log.warning("service.away", upstream=self._service, error=str(error), request_id=request.id.decode())
            problem = Unavailable(f"The {self._service} service does not answer; try again in {self._retry_after_s} seconds.")
            await refuse(request, answer, problem, retry_after_s=self._retry_after_s)
            return
        try:
            await self._pass_back(response, request, answer)
        finally:
            response.close()

    async def _head(self, request: Request, body: AsyncIterator[bytes] | bytes) -> aiohttp.ClientResponse:
        """Returns the answer once its head is here. Raises TimeoutError if the service keeps the gateway waiting for that too long.

        What follows may take its time: long polls and event streams begin at once and go on.
        """
        timeout_s = self._head_timeout_s(request)
        async with asyncio.timeout(timeout_s) as patience:
            return await self._session.request(
                request.method,
                _target(self._url, request),
                headers=forwarded_request_headers(
                    request.headers,
                    client=request.client,
                    scheme=request.scheme,
                    request_id=request.id,
                    traceparent=carried_traceparent(),
                ),
                data=body or None if isinstance(body, bytes) else _timed(body, patience, timeout_s),
                allow_redirects=False,
            )

    async def _pass_back(self, response: aiohttp.ClientResponse, request: Request, answer: Answer) -> None:
        await answer.head(response.status, forwarded_response_headers(response.raw_headers))
        try:
            async for chunk in response.content.iter_any():
                await answer.piece(chunk)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # The end is not sent: the server then cuts the connection, and nobody takes half an answer for a whole one.
            _log.warning("service.broke_off", upstream=self._service, error=str(error), request_id=request.id.decode())
            return
        await answer.end()


async def _timed(body: AsyncIterator[bytes], patience: asyncio.Timeout, timeout_s: float) -> AsyncIterator[bytes]:
    """Yields the body. Only the service's time counts: that to take each piece, and that to answer after the last."""
    _allow(patience, None)
    async for piece in body:
        _allow(patience, timeout_s)
        yield piece
        _allow(patience, None)
    _allow(patience, timeout_s)


def _allow(patience: asyncio.Timeout, seconds: float | None) -> None:
    # A service may answer before it has the whole body; then there is nothing left to time.
    with suppress(RuntimeError):
        patience.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


def _target(base_url: str, request: Request) -> URL:
    raw = request.raw_path + (b"?" + request.query if request.query else b"")
    return URL(base_url + raw.decode("latin-1"), encoded=True)


def _declared_bytes(headers: RawHeaders) -> int | None:
    """Returns the size of a body, 0 where there is none; None where only its end will tell."""
    if header_value(headers, b"transfer-encoding") is not None:
        return None
    length = header_value(headers, b"content-length") or b"0"
    return int(length) if length.isdigit() else None
