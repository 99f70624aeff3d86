"""HTTP to one server: the key, retries, and problem documents turned into exceptions."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import BaseModel

from quantry.aio.runtime import Sleep, sleep
from quantry.config import Connection
from quantry.errors import ApiError, ServerUnreachable
from quantry.messages import (
    KEY_HEADER,
    USER_AGENT,
    ModelT,
    is_loopback,
    parsed,
    problem_of,
    sent_parameters,
    timeout_of,
    trouble_words,
)
from quantry.retries import IDEMPOTENT, Retries, is_hopeless, is_passing, retry_after_s, was_sent

BodyFactory = Callable[[], AsyncIterator[bytes]]
"""Opens a request's body anew for each attempt."""

_DEFAULT_RETRIES = Retries()


class Transport:
    """Sends requests; one per client. ``sleep`` is injected so that tests wait for nothing."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout_s: float,
        retries: Retries = _DEFAULT_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Sleep = sleep,
    ) -> None:
        self.url = connection.url
        self.sleep = sleep
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=connection.url,
            headers={"authorization": f"Bearer {connection.api_key}", "user-agent": USER_AGENT},
            timeout=timeout_of(timeout_s),
            transport=transport,
            # No redirect is part of the API; following one could carry the key to another server.
            follow_redirects=False,
            # A proxy named in the environment is for the way out: it would look for this machine's server on its own machine.
            trust_env=not is_loopback(connection.url),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def get(self, model: type[ModelT], path: str, params: Mapping[str, object] | None = None) -> ModelT:
        """Returns what a GET answers, as ``model``."""
        return parsed(model, await self.send("GET", path, params=params))

    async def post(self, model: type[ModelT], path: str, body: BaseModel | None = None) -> ModelT:
        """Returns what a POST answers. It is sent once: it may do something each time."""
        return parsed(model, await self.send("POST", path, json=body))

    async def post_once(
        self, model: type[ModelT], path: str, body: BaseModel | None = None, *, idempotency_key: str | None = None
    ) -> ModelT:
        """Returns what a POST answers whose Idempotency-Key makes the server do it once, however often it is sent.

        A key is made for this call where none is given. Raises ServerUnreachable with the key if the answer was lost each time.
        """
        key = idempotency_key or str(uuid.uuid4())
        try:
            return parsed(model, await self.send("POST", path, json=body, headers={KEY_HEADER: key}, is_repeatable=True))
        except ServerUnreachable as error:
            error.idempotency_key = key if error.may_have_arrived else None
            raise

    async def post_again(self, model: type[ModelT], path: str, body: BaseModel | None = None, *, idle_s: float | None = None) -> ModelT:
        """Returns what a POST answers that may be repeated without doing more: cancel, stop, start, estimate.

        ``idle_s``: how long the server may say nothing, where that is to be other than the client's own timeout.
        """
        return parsed(model, await self.send("POST", path, json=body, is_repeatable=True, idle_s=idle_s))

    async def put(self, model: type[ModelT], path: str, body: BaseModel) -> ModelT:
        """Returns what a PUT answers."""
        return parsed(model, await self.send("PUT", path, json=body))

    async def patch(self, model: type[ModelT], path: str, body: BaseModel) -> ModelT:
        """Returns what a PATCH answers. Only the fields that were set are sent: the others are left as they are."""
        return parsed(
            model,
            await self.send(
                "PATCH",
                path,
                content=body.model_dump_json(exclude_unset=True).encode(),
                headers={"content-type": "application/json"},
            ),
        )

    async def put_stream(self, model: type[ModelT], path: str, body: BodyFactory, *, content_type: str, size_bytes: int) -> ModelT:
        """Returns what a PUT of a streamed body answers."""
        headers = {"content-type": content_type, "content-length": str(size_bytes)}
        return parsed(model, await self.send("PUT", path, content=body, headers=headers))

    async def delete(self, path: str) -> None:
        """Sends a DELETE."""
        await self.send("DELETE", path)

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        json: BaseModel | None = None,
        content: BodyFactory | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool = False,
        idle_s: float | None = None,
    ) -> httpx.Response:
        """Returns a fully read answer of status 2xx; raises ApiError for a refusal, ServerUnreachable where none comes.

        ``idle_s``: how long the server may say nothing, where that is to be other than the client's own timeout.
        """

        async def exchange() -> httpx.Response:
            request = self._request(method, path, params=params, json=json, content=content, headers=headers, idle_s=idle_s)
            return await self._http.send(request)

        return await self._answered(exchange, is_repeatable=is_repeatable or method in IDEMPOTENT)

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None, idle_s: float
    ) -> AsyncIterator[httpx.Response]:
        """Yields an open GET answer of status 2xx. ``idle_s``: how long it may say nothing.

        Raises as ``send`` until it is open; while it is read, httpx.TransportError says that it broke off.
        """

        async def exchange() -> httpx.Response:
            request = self._request("GET", path, params=params, headers=headers, idle_s=idle_s)
            return await self._http.send(request, stream=True)

        response = await self._answered(exchange, is_repeatable=True)
        try:
            yield response
        finally:
            await response.aclose()

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        json: BaseModel | None = None,
        content: BodyFactory | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        idle_s: float | None = None,
    ) -> httpx.Request:
        extra: dict[str, Any] = {} if idle_s is None else {"timeout": timeout_of(idle_s)}
        fields = dict(headers or {})
        body = content() if callable(content) else content
        if json is not None:
            body = json.model_dump_json(exclude_unset=False).encode()
            fields["content-type"] = "application/json"
        return self._http.build_request(method, path, params=sent_parameters(params), content=body, headers=fields, **extra)

    async def _answered(self, exchange: Callable[[], Awaitable[httpx.Response]], *, is_repeatable: bool) -> httpx.Response:
        """Returns a 2xx answer, after retries where those are safe."""
        may_have_arrived = False
        for attempt in range(1, self._retries.max_attempts + 1):
            is_last = attempt == self._retries.max_attempts
            try:
                response = await exchange()
            except httpx.TransportError as error:
                may_have_arrived = may_have_arrived or was_sent(error)
                if is_last or is_hopeless(error, is_repeatable=is_repeatable):
                    raise ServerUnreachable(self.url, trouble_words(error), may_have_arrived=may_have_arrived) from error
                await self.sleep(self._retries.pause_s(attempt))
                continue
            if response.is_success:
                return response
            problem = problem_of(response, await _read(response))
            pause_s = self._retries.pause_after_s(response, attempt) if is_passing(problem) and not is_last else None
            if pause_s is None and is_passing(problem) and may_have_arrived:
                # An earlier answer was lost: that it is refused now does not say that it was not done then.
                raise ServerUnreachable(self.url, problem.detail, may_have_arrived=True)
            if pause_s is None or not is_repeatable:
                raise ApiError(problem, retry_after_s=retry_after_s(response))
            await self.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")


async def _read(response: httpx.Response) -> bytes:
    """Reads and closes a refusal."""
    try:
        return await response.aread()
    except httpx.TransportError:
        return b""
    finally:
        await response.aclose()
