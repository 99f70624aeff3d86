"""The OpenAI-compatible data plane under /v1: authenticate, find the deployment, pass the bytes through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from quantry_core.keys import Role, role_covers
from quantry_core.rollouts import Route
from quantry_gateway import openai_errors as errors
from quantry_gateway.exchange import Answer, BodyTooLarge, Request
from quantry_gateway.headers import bearer_secret, header_value
from quantry_gateway.openai_errors import OpenAIError
from quantry_gateway.replicas import ReplicaCaller, ReplicaRequest
from quantry_gateway.table import RouteTable

GENERATION_PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})
"""Forwarded to a replica under the same path."""

_MODELS_PATH = "/v1/models"


class DataPlane:
    """Answers /v1/*. Every refusal has OpenAI's shape."""

    def __init__(self, table: RouteTable, caller: ReplicaCaller, *, max_body_bytes: int, retry_after_s: int) -> None:
        self._table = table
        self._caller = caller
        self._max_body_bytes = max_body_bytes
        self._retry_after_s = retry_after_s

    async def answer(self, request: Request, answer: Answer) -> None:
        """Answers one request."""
        try:
            routes = self._authorized_routes(request)
            path = unquote(request.raw_path.decode("ascii"))
            if path in GENERATION_PATHS:
                _require_method(request, "POST")
                await self._generate(path, routes, request, answer)
            elif path == _MODELS_PATH:
                _require_method(request, "GET")
                await answer.json({"object": "list", "data": [_model(route) for route in routes.values()]})
            elif path.startswith(_MODELS_PATH + "/"):
                _require_method(request, "GET")
                await answer.json(_model(_route(routes, path.removeprefix(_MODELS_PATH + "/"))))
            else:
                raise errors.unknown_url(request.method, path)
        except OpenAIError as error:
            await error.send(answer)

    def _authorized_routes(self, request: Request) -> Mapping[str, Route]:
        routes = self._table.current
        if routes is None:
            raise errors.routes_unknown(self._retry_after_s)
        secret = bearer_secret(request.headers)
        key = routes.identify(secret) if secret is not None else None
        if key is None:
            raise errors.invalid_api_key()
        if not role_covers(key.role, Role.VIEWER):
            raise errors.key_not_allowed(key.role)
        return routes.of_project(key.project_id)

    async def _generate(self, path: str, routes: Mapping[str, Route], request: Request, answer: Answer) -> None:
        try:
            body = await request.body(declared_bytes=_declared_bytes(request), max_bytes=self._max_body_bytes)
        except BodyTooLarge:
            raise errors.body_too_large(self._max_body_bytes) from None
        route = _route(routes, _peek_model(body))
        if not route.replicas:
            raise errors.no_replica_ready(route.deployment, self._retry_after_s)
        content_type = (header_value(request.headers, b"content-type") or b"application/json").decode("latin-1")
        upstream = ReplicaRequest(path=path, content_type=content_type, body=body, request_id=request.id)
        await request.run_while_connected(self._caller.call(route.replicas, upstream, answer))


def _require_method(request: Request, method: str) -> None:
    if request.method != method:
        raise errors.method_not_allowed(request.method, method)


def _declared_bytes(request: Request) -> int | None:
    value = header_value(request.headers, b"content-length")
    return int(value) if value is not None and value.isdigit() else None


def _peek_model(body: bytes) -> str:
    """Returns the body's model. The body itself is passed on as it came."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise errors.not_json(str(error)[:200]) from None
    if not isinstance(document, dict):
        raise errors.not_json(f"it holds a {type(document).__name__}")
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise errors.missing_model()
    return model


def _route(routes: Mapping[str, Route], name: str) -> Route:
    route = routes.get(name)
    if route is None:
        raise errors.model_not_found(name)
    return route


def _model(route: Route) -> dict[str, Any]:
    """Returns a model as OpenAI's API shows it; an adapter's with its root and its parent, as vLLM shows them."""
    model = {"id": route.deployment, "object": "model", "created": int(route.created_at.timestamp()), "owned_by": route.project_id}
    return model if route.parent is None else model | {"root": route.parent, "parent": route.parent}
