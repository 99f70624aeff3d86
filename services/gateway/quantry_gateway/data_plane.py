"""The OpenAI-compatible data plane under /v1: authenticate, find the deployment, pass the bytes through."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from quantry_core.keys import Role, role_covers
from quantry_core.rollouts import Route, RoutedReplica
from quantry_gateway import openai_errors as errors
from quantry_gateway.exchange import Answer, BodyTooLarge, Request
from quantry_gateway.headers import bearer_secret, header_value
from quantry_gateway.openai_errors import OpenAIError
from quantry_gateway.replicas import ReplicaCaller, ReplicaRequest
from quantry_gateway.table import CompiledRoutes, RouteTable

GENERATION_PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})
"""Forwarded to a replica under the same path."""

_MODELS_PATH = "/v1/models"


class DataPlane:
    """Answers /v1/*. Every refusal has OpenAI's shape."""

    def __init__(self, table: RouteTable, caller: ReplicaCaller, *, max_body_bytes: int, ready_wait_s: float, retry_after_s: int) -> None:
        self._table = table
        self._caller = caller
        self._max_body_bytes = max_body_bytes
        self._ready_wait_s = ready_wait_s
        self._retry_after_s = retry_after_s

    async def answer(self, request: Request, answer: Answer) -> None:
        """Answers one request."""
        try:
            project_id = self._project_of(request)
            path = unquote(request.raw_path.decode("ascii"))
            if path in GENERATION_PATHS:
                _require_method(request, "POST")
                await self._generate(path, project_id, request, answer)
            elif path == _MODELS_PATH:
                _require_method(request, "GET")
                await answer.json({"object": "list", "data": [_model(route) for route in self._routes(project_id).values()]})
            elif path.startswith(_MODELS_PATH + "/"):
                _require_method(request, "GET")
                await answer.json(_model(_route(self._routes(project_id), path.removeprefix(_MODELS_PATH + "/"))))
            else:
                raise errors.unknown_url(request.method, path)
        except OpenAIError as error:
            await error.send(answer)

    def _current(self) -> CompiledRoutes:
        routes = self._table.current
        if routes is None:
            raise errors.routes_unknown(self._retry_after_s)
        return routes

    def _routes(self, project_id: str) -> Mapping[str, Route]:
        return self._current().of_project(project_id)

    def _project_of(self, request: Request) -> str:
        """Returns the id of the project that the request's key is for."""
        secret = bearer_secret(request.headers)
        key = self._current().identify(secret) if secret is not None else None
        if key is None:
            raise errors.invalid_api_key()
        if not role_covers(key.role, Role.VIEWER):
            raise errors.key_not_allowed(key.role)
        return key.project_id

    async def _generate(self, path: str, project_id: str, request: Request, answer: Answer) -> None:
        try:
            body = await request.body(declared_bytes=_declared_bytes(request), max_bytes=self._max_body_bytes)
        except BodyTooLarge:
            raise errors.body_too_large(self._max_body_bytes) from None
        model = _peek_model(body)
        content_type = (header_value(request.headers, b"content-type") or b"application/json").decode("latin-1")
        upstream = ReplicaRequest(path=path, content_type=content_type, body=body, request_id=request.id)
        await request.run_while_connected(self._forward(project_id, model, upstream, answer))

    async def _forward(self, project_id: str, model: str, upstream: ReplicaRequest, answer: Answer) -> None:
        replicas = await self._ready_replicas(project_id, model)
        await self._caller.call(replicas, upstream, answer)

    async def _ready_replicas(self, project_id: str, model: str) -> list[RoutedReplica]:
        """Returns who can answer. Where nobody can, waits a moment: a deploy may have ended before its routes came here."""
        try:
            async with asyncio.timeout(self._ready_wait_s):
                while not (route := _route(self._routes(project_id), model)).replicas:
                    await self._table.next_swap()
        except TimeoutError:
            raise errors.no_replica_ready(model, self._retry_after_s) from None
        return route.replicas


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
