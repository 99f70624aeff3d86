"""HTTP to one server: the key, retries, and problem documents turned into exceptions."""

from __future__ import annotations

import ipaddress
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, RootModel, ValidationError

from quantry.config import Connection
from quantry.errors import ApiError, InvalidReference, ServerUnreachable, UnexpectedAnswer
from quantry_core.errors import PROBLEM_TYPE_PREFIX, IdempotencyKeyInFlight, Problem

MAX_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})
"""A PATCH sets what it is given to a value; setting it again changes nothing."""
_KEY_HEADER = "idempotency-key"
_IN_FLIGHT = PROBLEM_TYPE_PREFIX + IdempotencyKeyInFlight.slug

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,159}")

ModelT = TypeVar("ModelT", bound=BaseModel)
BodyFactory = Callable[[], Iterator[bytes]]
"""Opens a request's body anew for each attempt."""


class Document(RootModel[dict[str, Any]]):
    """A body or an answer whose fields this SDK does not know."""


def path_part(text: str) -> str:
    """Returns an id, name or ``name@number`` as one part of a path; raises InvalidReference if it could be read as more."""
    if not _REFERENCE.fullmatch(text) or ".." in text:
        raise InvalidReference(f"an id or name is made of letters, digits, '.', '_', '-' and '@', not {text[:80]!r}")
    return text


def is_loopback(url: str) -> bool:
    """Tells whether a URL's host is this machine by its name or number; nothing is looked up."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


Progress = Callable[[int], object]
"""Told how many bytes were sent or arrived since the last call; negative where some must be sent or fetched once more."""


class Transport:
    """Sends requests; one per client. ``sleep`` is injected so that tests wait for nothing."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout_s: float,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = connection.url
        self.sleep = sleep
        self._http = httpx.Client(
            base_url=connection.url,
            headers={"authorization": f"Bearer {connection.api_key}", "user-agent": "quantry-python"},
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            transport=transport,
            # No redirect is part of the API; following one could carry the key to another server.
            follow_redirects=False,
            # A proxy named in the environment is for the way out: it would look for this machine's server on its own machine.
            trust_env=not is_loopback(connection.url),
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def get(self, model: type[ModelT], path: str, params: Mapping[str, object] | None = None) -> ModelT:
        """Returns what a GET answers, as ``model``."""
        return _parsed(model, self.send("GET", path, params=params))

    def post(self, model: type[ModelT], path: str, body: BaseModel | None = None) -> ModelT:
        """Returns what a POST answers. It is sent once: it may do something each time."""
        return _parsed(model, self.send("POST", path, json=body))

    def post_once(self, model: type[ModelT], path: str, body: BaseModel | None = None, *, idempotency_key: str | None = None) -> ModelT:
        """Returns what a POST answers whose Idempotency-Key makes the server do it once, however often it is sent.

        A key is made for this call where none is given. Raises ServerUnreachable with the key if the answer was lost each time.
        """
        key = idempotency_key or str(uuid.uuid4())
        try:
            return _parsed(model, self.send("POST", path, json=body, headers={_KEY_HEADER: key}, is_repeatable=True))
        except ServerUnreachable as error:
            error.idempotency_key = key if error.may_have_arrived else None
            raise

    def post_again(self, model: type[ModelT], path: str, body: BaseModel | None = None, *, idle_s: float | None = None) -> ModelT:
        """Returns what a POST answers that may be repeated without doing more: cancel, stop, start, estimate.

        ``idle_s``: how long the server may say nothing, where that is to be other than the client's own timeout.
        """
        return _parsed(model, self.send("POST", path, json=body, is_repeatable=True, idle_s=idle_s))

    def put(self, model: type[ModelT], path: str, body: BaseModel) -> ModelT:
        """Returns what a PUT answers."""
        return _parsed(model, self.send("PUT", path, json=body))

    def patch(self, model: type[ModelT], path: str, body: BaseModel) -> ModelT:
        """Returns what a PATCH answers. Only the fields that were set are sent: the others are left as they are."""
        return _parsed(
            model,
            self.send(
                "PATCH",
                path,
                content=lambda: iter([body.model_dump_json(exclude_unset=True).encode()]),
                headers={"content-type": "application/json"},
            ),
        )

    def put_stream(self, model: type[ModelT], path: str, body: BodyFactory, *, content_type: str, size_bytes: int) -> ModelT:
        """Returns what a PUT of a streamed body answers."""
        headers = {"content-type": content_type, "content-length": str(size_bytes)}
        return _parsed(model, self.send("PUT", path, content=body, headers=headers))

    def delete(self, path: str) -> None:
        """Sends a DELETE."""
        self.send("DELETE", path)

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        json: BaseModel | None = None,
        content: BodyFactory | None = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool = False,
        idle_s: float | None = None,
    ) -> httpx.Response:
        """Returns a fully read answer of status 2xx; raises ApiError for a refusal, ServerUnreachable where none comes.

        ``idle_s``: how long the server may say nothing, where that is to be other than the client's own timeout.
        """
        timeout = None if idle_s is None else httpx.Timeout(idle_s, connect=5.0)

        def exchange() -> httpx.Response:
            request = self._request(method, path, params=params, json=json, content=content, headers=headers, timeout=timeout)
            return self._http.send(request)

        return self._answered(exchange, is_repeatable=is_repeatable or method in _IDEMPOTENT)

    @contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None, idle_s: float
    ) -> Iterator[httpx.Response]:
        """Yields an open GET answer of status 2xx. ``idle_s``: how long it may say nothing.

        Raises as ``send`` until it is open; while it is read, httpx.TransportError says that it broke off.
        """

        def exchange() -> httpx.Response:
            request = self._request("GET", path, params=params, headers=headers, timeout=httpx.Timeout(idle_s, connect=5.0))
            return self._http.send(request, stream=True)

        response = self._answered(exchange, is_repeatable=True)
        try:
            yield response
        finally:
            response.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        json: BaseModel | None = None,
        content: BodyFactory | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Request:
        given = {name: _parameter(value) for name, value in (params or {}).items() if value is not None}
        extra: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        fields = dict(headers or {})
        body: bytes | Iterator[bytes] | None = content() if content is not None else None
        if json is not None:
            body = json.model_dump_json(exclude_unset=False).encode()
            fields["content-type"] = "application/json"
        return self._http.build_request(method, path, params=given or None, content=body, headers=fields, **extra)

    def _answered(self, exchange: Callable[[], httpx.Response], *, is_repeatable: bool) -> httpx.Response:
        """Returns a 2xx answer, after retries where those are safe."""
        may_have_arrived = False
        for attempt in range(1, MAX_ATTEMPTS + 1):
            is_last = attempt == MAX_ATTEMPTS
            try:
                response = exchange()
            except httpx.TransportError as error:
                # Without a connection nothing was sent, so that even a POST may be tried again.
                was_sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                may_have_arrived = may_have_arrived or was_sent
                is_hopeless = was_sent and (not is_repeatable or isinstance(error, httpx.TimeoutException))
                if is_last or is_hopeless:
                    raise ServerUnreachable(self.url, _words(error), may_have_arrived=may_have_arrived) from error
                self.sleep(_pause_s(attempt))
                continue
            if response.is_success:
                return response
            problem = _problem(response)
            is_passing = response.status_code == 503 or problem.type == _IN_FLIGHT
            if is_passing and is_last and may_have_arrived:
                # An earlier answer was lost: that it is refused now does not say that it was not done then.
                raise ServerUnreachable(self.url, problem.detail, may_have_arrived=True)
            if not is_passing or is_last or not is_repeatable:
                raise ApiError(problem)
            self.sleep(_retry_after_s(response) or _pause_s(attempt))
        raise AssertionError("the last attempt returns or raises")


def _parameter(value: object) -> str | list[str]:
    """Returns a parameter as it is sent; what holds several values is sent as often."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [str(item) for item in value]
    return str(value)


def _pause_s(attempt: int) -> float:
    return min(_FIRST_PAUSE_S * 2.0 ** (attempt - 1), _LONGEST_PAUSE_S) * random.uniform(0.8, 1.2)


def _retry_after_s(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return min(float(value), _LONGEST_PAUSE_S) if value.isdecimal() else None


def _parsed(model: type[ModelT], response: httpx.Response) -> ModelT:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        where = f"{response.request.method} {response.request.url.path}"
        raise UnexpectedAnswer(f"the answer to {where} is not what this version of the SDK expects: {error}") from error


def _problem(response: httpx.Response) -> Problem:
    """Reads and closes a refusal; whatever it is, it becomes a problem document."""
    try:
        body = response.read()
    except httpx.TransportError:
        body = b""
    finally:
        response.close()
    try:
        return Problem.model_validate_json(body)
    except ValidationError:
        text = body[:300].decode(errors="replace").strip()
        detail = f"the server answered {response.status_code} {response.reason_phrase}" + (f": {text}" if text else "")
        return Problem(type="about:blank", title=response.reason_phrase or "Error", status=response.status_code, detail=detail)


def _words(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    return str(error) or type(error).__name__
