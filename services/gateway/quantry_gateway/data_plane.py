"""The OpenAI-compatible data plane under /v1: authenticate, find the deployment, pass the bytes through."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import unquote

from quantry_core.keys import Role, role_covers
from quantry_core.routes import Route, RoutedKey
from quantry_gateway import openai_errors as errors
from quantry_gateway.dispatch import Dispatcher, Errand
from quantry_gateway.exchange import Answer, BodyTooLarge, Request
from quantry_gateway.headers import bearer_secret, header_value
from quantry_gateway.hooks import Hooks
from quantry_gateway.openai_errors import OpenAIError
from quantry_gateway.peek import Fields
from quantry_gateway.records import Asked
from quantry_gateway.replicas import ReplicaRequest
from quantry_gateway.table import CompiledRoutes, RouteTable

GENERATION_PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})

_REPLICA_PATHS: Mapping[str, str] = {
    **{path: path for path in GENERATION_PATHS},
    "/v1/embeddings": "/v1/embeddings",
    "/v1/tokenize": "/tokenize",
    "/v1/detokenize": "/detokenize",
    "/tokenize": "/tokenize",
    "/detokenize": "/detokenize",
}
"""What a replica answers, and under which path. vLLM has its tokenizer beside /v1."""

_MODELS_PATH = "/v1/models"
_FEEDBACK_PATH = "/v1/feedback"


def _now() -> datetime:
    return datetime.now(UTC)


class DataPlane:
    """Answers /v1/*. Every refusal has OpenAI's shape."""

    def __init__(
        self,
        table: RouteTable,
        dispatcher: Dispatcher,
        hooks: Hooks,
        *,
        max_body_bytes: int,
        request_timeout_s: float | None,
        retry_after_s: int,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._table = table
        self._dispatcher = dispatcher
        self._hooks = hooks
        self._max_body_bytes = max_body_bytes
        self._request_timeout_s = request_timeout_s
        self._retry_after_s = retry_after_s
        self._now = now

    async def answer(self, request: Request, answer: Answer) -> None:
        """Answers one request."""
        try:
            key = self._key_of(request)
            path = unquote(request.raw_path.decode("ascii"))
            if path in _REPLICA_PATHS:
                _require_method(request, "POST")
                await self._serve(path, key, request, answer)
            elif path == _FEEDBACK_PATH and self._hooks.feedback is not None:
                _require_method(request, "POST")
                await self._hooks.feedback.answer(request, answer, key)
            elif path == _MODELS_PATH:
                _require_method(request, "GET")
                await answer.json({"object": "list", "data": [_model(route) for route in self._routes(key).values()]})
            elif path.startswith(_MODELS_PATH + "/"):
                _require_method(request, "GET")
                await answer.json(_model(_route(self._routes(key), path.removeprefix(_MODELS_PATH + "/"))))
            else:
                raise errors.unknown_url(request.method, path)
        except OpenAIError as error:
            await error.send(answer)

    def _current(self) -> CompiledRoutes:
        routes = self._table.current
        if routes is None:
            raise errors.routes_unknown(self._retry_after_s)
        return routes

    def _routes(self, key: RoutedKey) -> Mapping[str, Route]:
        return self._current().of_project(key.project_id)

    def _key_of(self, request: Request) -> RoutedKey:
        """Returns the request's key."""
        secret = bearer_secret(request.headers)
        key = self._current().identify(secret) if secret is not None else None
        if key is None:
            raise errors.invalid_api_key()
        if key.expires_at is not None and key.expires_at <= self._now():
            # By this gateway's clock: the control plane may be away, and the key must not outlive its time for that.
            raise errors.expired_api_key()
        if not role_covers(key.role, Role.VIEWER):
            raise errors.key_not_allowed(key.role)
        return key

    async def _serve(self, path: str, key: RoutedKey, request: Request, answer: Answer) -> None:
        given_timeout_s = _timeout_s(request)
        if self._hooks.limits is not None:
            wait_s = self._hooks.limits.admit(key)
            answer.limit_fields = self._hooks.limits.fields(key)
            if wait_s is not None:
                raise errors.rate_limited(max(1, math.ceil(wait_s)))
        try:
            body = await request.body(declared_bytes=_declared_bytes(request), max_bytes=self._max_body_bytes)
        except BodyTooLarge:
            raise errors.body_too_large(self._max_body_bytes) from None
        errand = _errand(path, key, request, body)
        if errand.model not in self._routes(key):
            raise errors.model_not_found(errand.model)
        await request.run_while_connected(self._in_time(errand, given_timeout_s, answer))

    async def _in_time(self, errand: Errand, given_timeout_s: float | None, answer: Answer) -> None:
        """Has a request answered within the time that it names or the gateway allows, whichever is less."""
        own_timeout_s = self._request_timeout_s
        is_own = own_timeout_s is not None and (given_timeout_s is None or own_timeout_s < given_timeout_s)
        timeout_s = own_timeout_s if is_own else given_timeout_s
        if timeout_s is None:
            await self._dispatcher.serve(errand, answer)
            return
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                errand.deadline = deadline if is_own else None
                await self._dispatcher.serve(errand, answer)
        except TimeoutError:
            error = errors.deadline_exceeded(timeout_s)
            if answer.is_open_stream:
                await answer.end(error.event())
            elif not answer.started:
                await error.send(answer)


def _errand(path: str, key: RoutedKey, request: Request, body: bytes) -> Errand:
    try:
        fields = Fields(body)
        model = fields.get("model")
    except (ValueError, RecursionError) as error:
        coding = header_value(request.headers, b"content-encoding")
        if coding is not None:
            raise errors.compressed(coding.decode("latin-1")) from None
        raise errors.not_json(str(error)[:200]) from None
    if not isinstance(model, str) or not model:
        raise errors.missing_model()
    content_type = (header_value(request.headers, b"content-type") or b"application/json").decode("latin-1")
    return Errand(
        model=model,
        asked=Asked(request_id=request.id.decode("ascii"), key=key, path=path, body=body),
        request=ReplicaRequest(
            path=_REPLICA_PATHS[path],
            content_type=content_type,
            body=body,
            request_id=request.id,
            is_streaming=partial(_is_streaming, fields),
        ),
        headers=request.headers,
        fields=fields,
    )


def _is_streaming(fields: Fields) -> bool:
    """Tells whether a body asks for a stream; of one that proves to be broken, its engine will say so."""
    with suppress(ValueError, RecursionError):
        return fields.get("stream") is True
    return False


def _timeout_s(request: Request) -> float | None:
    given = header_value(request.headers, errors.TIMEOUT_FIELD.encode())
    if given is None:
        return None
    try:
        timeout_s = float(given)
    except ValueError:
        timeout_s = math.nan
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        raise errors.bad_timeout(given.decode("latin-1"))
    return timeout_s


def _require_method(request: Request, method: str) -> None:
    if request.method != method:
        raise errors.method_not_allowed(request.method, method)


def _declared_bytes(request: Request) -> int | None:
    value = header_value(request.headers, b"content-length")
    return int(value) if value is not None and value.isdigit() else None


def _route(routes: Mapping[str, Route], name: str) -> Route:
    route = routes.get(name)
    if route is None:
        raise errors.model_not_found(name)
    return route


def _model(route: Route) -> dict[str, Any]:
    """Returns a model as OpenAI's API shows it; an adapter's with its root and its parent, as vLLM shows them."""
    model = {"id": route.deployment, "object": "model", "created": int(route.created_at.timestamp()), "owned_by": route.project_id}
    return model if route.parent is None else model | {"root": route.parent, "parent": route.parent}
