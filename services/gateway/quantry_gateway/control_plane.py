"""Forwards the control plane, /api/v1/*, to api and registry: every method, streaming both ways, nothing re-written."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import structlog
from yarl import URL

from quantry_core.errors import Unavailable
from quantry_gateway.exchange import Answer, ClientGone, Request
from quantry_gateway.headers import RawHeaders, forwarded_request_headers, forwarded_response_headers, header_value

_log = structlog.get_logger(__name__)


class ControlPlane:
    """Passes requests on to one service, named for people."""

    def __init__(self, session: aiohttp.ClientSession, *, service: str, url: str, retry_after_s: int) -> None:
        self._session = session
        self._service = service
        self._url = url
        self._retry_after_s = retry_after_s

    async def answer(self, request: Request, answer: Answer) -> None:
        """Answers one request; 503 with Retry-After when the service is away."""
        if _has_body(request.headers):
            work = self._forward(request, answer, body=request.chunks())
        else:
            # The empty body must be read for the client's leaving to be seen.
            await request.body(declared_bytes=None, max_bytes=0)
            work = self._forward(request, answer, body=None)
        await request.run_while_connected(work)

    async def _forward(self, request: Request, answer: Answer, *, body: AsyncIterator[bytes] | None) -> None:
        try:
            response = await self._session.request(
                request.method,
                _target(self._url, request),
                headers=forwarded_request_headers(request.headers, client=request.client, scheme=request.scheme, request_id=request.id),
                data=body,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__, ClientGone):
                return
            _log.warning("service.away", upstream=self._service, error=str(error), request_id=request.id.decode())
            problem = Unavailable(f"The {self._service} service does not answer; try again in {self._retry_after_s} seconds.")
            await answer.problem(problem, instance=request.path, retry_after_s=self._retry_after_s)
            return
        try:
            await self._pass_back(response, request, answer)
        finally:
            response.close()

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


def _target(base_url: str, request: Request) -> URL:
    raw = request.raw_path + (b"?" + request.query if request.query else b"")
    return URL(base_url + raw.decode("latin-1"), encoded=True)


def _has_body(headers: RawHeaders) -> bool:
    length = header_value(headers, b"content-length")
    return header_value(headers, b"transfer-encoding") is not None or (length is not None and length != b"0")
