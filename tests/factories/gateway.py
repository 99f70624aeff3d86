"""Servers for the gateway's tests: engines that misbehave on request, a control plane, and the gateway itself. All real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from aiohttp import web
from pydantic import SecretStr

from quantry_core.captures import CaptureReport
from quantry_core.keys import Role, hash_key
from quantry_core.routes import Route, RoutedKey, RoutedReplica, RouteSnapshot, Variant, VariantRole
from quantry_core.traffic import TrafficReport
from quantry_gateway.__main__ import server_config
from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.settings import GatewaySettings

KEY = "qtr_viewer-key-of-the-first-project"
OTHER_KEY = "qtr_viewer-key-of-the-second-project"
MACHINE_KEY = "qtr_worker-key"
EXPIRED_KEY = "qtr_viewer-key-whose-time-is-over"
GATEWAY_TOKEN = "qtr_gateway-token"
CREATED_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

DONE = b"data: [DONE]\n\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def keys() -> list[RoutedKey]:
    """Returns the keys that every snapshot of these tests knows."""
    table = ((KEY, "prj_1", Role.VIEWER), (OTHER_KEY, "prj_2", Role.ADMIN), (MACHINE_KEY, "prj_1", Role.WORKER))
    known = [
        RoutedKey(key_id=f"key_{n}", key_hash=hash_key(key), project_id=project, role=role) for n, (key, project, role) in enumerate(table)
    ]
    expired = {"key_id": "key_expired", "key_hash": hash_key(EXPIRED_KEY), "expires_at": CREATED_AT}
    return [*known, known[0].model_copy(update=expired)]


def replicas(name: str, *urls: str, release_id: str = "rel_1", max_requests: int = 64) -> list[RoutedReplica]:
    """Returns replicas of a release at these URLs."""
    return [RoutedReplica(id=f"rep_{name}_{n}", release_id=release_id, url=url, max_requests=max_requests) for n, url in enumerate(urls)]


def variant(role: VariantRole, number: int, percent: int, *urls: str, max_requests: int = 64) -> Variant:
    """Returns release ``number`` as one variant of a route, with replicas at these URLs."""
    release_id = f"rel_{number}"
    found = replicas(f"{number}", *urls, release_id=release_id, max_requests=max_requests)
    return Variant(role=role, release_id=release_id, release_number=number, percent=percent, replicas=found)


def route(deployment: str, *urls: str, project_id: str = "prj_1", parent: str | None = None, **more: Any) -> Route:
    """Returns a route to replicas of one release at these URLs."""
    stable = Variant(role=VariantRole.STABLE, release_id="rel_1", release_number=1, percent=100, replicas=replicas(deployment, *urls))
    return routed(deployment, stable, project_id=project_id, parent=parent, **more)


def routed(deployment: str, *variants: Variant, project_id: str = "prj_1", parent: str | None = None, **more: Any) -> Route:
    """Returns a route to these variants."""
    return Route(
        deployment=deployment,
        deployment_id=f"dep_{parent or deployment}",
        parent=parent,
        project_id=project_id,
        created_at=CREATED_AT,
        variants=list(variants),
        **more,
    )


def snapshot(*routes: Route, revision: int = 1) -> RouteSnapshot:
    """Returns a snapshot of these routes."""
    return RouteSnapshot(revision=revision, routes=list(routes), keys=keys())


def chat_event(text: str) -> bytes:
    """Returns one chunk of a streamed chat answer."""
    return (
        b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"bard",'
        b'"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n' % text.encode()
    )


CHAT_ANSWER = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"bard",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"To be"},"finish_reason":"stop"}]}'
)
COMPLETION_ANSWER = (
    b'{"id":"c1","object":"text_completion","created":1,"model":"bard",'
    b'"choices":[{"index":0,"text":" or not","logprobs":null,"finish_reason":"stop"}]}'
)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serves one handler for every path on a free port and yields the base URL."""
    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def refusing_url() -> str:
    """Returns the URL of a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@dataclass
class FakeEngine:
    """An engine that answers with ``behave`` and remembers what it was asked."""

    behave: Handler
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        self.bodies.append(await request.read())
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        return await self.behave(request)


def stream_until(may_end: asyncio.Event) -> Handler:
    """Returns how an engine answers with one event, and with the end of its stream once it may."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_event("To"))
        await may_end.wait()
        await response.write(DONE)
        return response

    return answer


async def answer_normally(request: web.Request) -> web.StreamResponse:
    """Answers as vLLM does: chat or completion, streamed where asked."""
    if (await request.json()).get("stream"):
        return await stream(request, [chat_event("To"), chat_event(" be"), DONE])
    body = CHAT_ANSWER if request.path.endswith("/chat/completions") else COMPLETION_ANSWER
    return web.Response(body=body, content_type="application/json")


async def stream(request: web.Request, chunks: list[bytes]) -> web.StreamResponse:
    """Sends chunks as an event stream and ends it."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    await response.write_eof()
    return response


async def drop_before_answer(request: web.Request) -> web.StreamResponse:
    """Takes the request and closes the connection."""
    cut(request)
    return web.Response()


async def hang(request: web.Request) -> web.StreamResponse:
    """Takes the request and says nothing."""
    await asyncio.sleep(60)
    return web.Response()


def cut(request: web.Request) -> None:
    """Closes a request's connection at once."""
    assert request.transport is not None
    request.transport.abort()


StartEngines = Callable[..., Awaitable[list[FakeEngine]]]
"""Starts one engine per behaviour."""
StartGateway = Callable[..., Awaitable[str]]
"""Starts a gateway with these replicas of ``bard`` and returns its URL."""


class FakeRoutesApi:
    """What the api has for gateways. Routes: answers when the revision differs, 204 when it waited in vain. Reports are kept."""

    def __init__(self, first: RouteSnapshot) -> None:
        self._snapshot = first
        self._changed = asyncio.Event()
        self.tokens: list[str] = []
        self.reports: list[TrafficReport] = []
        self.captures: list[CaptureReport] = []

    def publish(self, changed: RouteSnapshot) -> None:
        """Sets new routes and wakes whoever waits."""
        self._snapshot = changed
        self._changed.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one poll, or takes one report."""
        match request.path:
            case "/internal/v1/traffic":
                self.reports.append(TrafficReport.model_validate_json(await request.read()))
                return web.Response(status=204)
            case "/internal/v1/captures":
                self.captures.append(CaptureReport.model_validate_json(await request.read()))
                return web.Response(status=204)
        assert request.path == "/internal/v1/routes"
        self.tokens.append(request.headers["authorization"])
        after = request.query.get("after")
        if after == str(self._snapshot.revision):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), float(request.query["wait_s"]))
            except TimeoutError:
                return web.Response(status=204)
        return web.Response(body=self._snapshot.model_dump_json().encode(), content_type="application/json")


@dataclass
class RoutedGateway:
    """A gateway, the api that it learns routes from, and what its sinks were told."""

    url: str
    api: FakeRoutesApi
    outcomes: list[Outcome]
    revision: int = 1

    def publish(self, *routes: Route) -> None:
        """Has the api tell of other routes."""
        self.revision += 1
        self.api.publish(snapshot(*routes, revision=self.revision))

    def told(self) -> list[tuple[str, OutcomeKind]]:
        """Returns release and kind of every outcome, in order."""
        return [(outcome.release_id, outcome.kind) for outcome in self.outcomes]


StartRouted = Callable[..., Awaitable[RoutedGateway]]
"""Starts a gateway with these routes."""


def gateway_settings(state_dir: Path, api_url: str, **changes: object) -> GatewaySettings:
    """Returns settings for a gateway under test: short waits, any free port."""
    values: dict[str, object] = {
        "gateway_port": 0,
        "api_url": api_url,
        "registry_url": refusing_url(),
        "gateway_token": SecretStr(GATEWAY_TOKEN),
        "gateway_state_dir": state_dir,
        "gateway_routes_wait_s": 1.0,
        "gateway_idle_timeout_s": 20.0,
        "gateway_ready_wait_s": 0.3,
    }
    return GatewaySettings.model_validate(values | changes)


@asynccontextmanager
async def running_gateway(settings: GatewaySettings) -> AsyncIterator[str]:
    """Runs the gateway under uvicorn in this loop and yields its base URL."""
    server = uvicorn.Server(server_config(settings))
    serving_task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if serving_task.done():
                serving_task.result()
                raise AssertionError("the gateway ended before it began")
            await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving_task


async def until_any(*lists: list[Any]) -> None:
    """Returns once one of the lists holds something."""

    async def is_filled() -> bool:
        return any(lists)

    await until(is_filled)


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 5.0) -> None:
    """Returns once the condition holds; fails the test when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)
