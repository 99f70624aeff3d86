"""The gateway as one ASGI application: decides by the raw path who answers, and holds the parts while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import structlog
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from quantry_core.errors import BodyStalled, NotFound, QuantryError, Unavailable
from quantry_gateway.balancer import Balancer
from quantry_gateway.control_plane import ControlPlane
from quantry_gateway.data_plane import DataPlane
from quantry_gateway.demands import WaitingRoom
from quantry_gateway.dispatch import Dispatcher, Patience
from quantry_gateway.ejection import Ejection
from quantry_gateway.exchange import Answer, BodyWait, ClientGone, Request
from quantry_gateway.hooks import Surroundings
from quantry_gateway.kept_routes import KeptRoutes
from quantry_gateway.listeners import build_hooks
from quantry_gateway.metrics import GatewayMetrics, GatewayState
from quantry_gateway.openai_errors import gateway_failed, shutting_down
from quantry_gateway.paths import PathRefused, Plane, plane_of, takes_long
from quantry_gateway.queues import Queues
from quantry_gateway.records import Announcer
from quantry_gateway.refusals import refuse
from quantry_gateway.replicas import ReplicaCaller
from quantry_gateway.routes import RouteWatcher
from quantry_gateway.settings import GatewaySettings
from quantry_gateway.spans import serving
from quantry_gateway.table import CompiledRoutes, RouteTable
from quantry_telemetry.connections import ConnectionSettings

_KEPT_CONNECTION_S = 3.0
"""Shorter than the 5 s after which uvicorn, in front of every engine and every service, closes an idle connection."""

_log = structlog.get_logger(__name__)


def build_app(settings: GatewaySettings, metrics: GatewayMetrics | None = None, connections: ConnectionSettings | None = None) -> ASGIApp:
    """Returns the gateway. It loads kept routes and begins to poll for fresh ones when its lifespan starts.

    What it counts goes to ``metrics``, which whoever made them serves. ``connections`` say how long bodies may take; those of the
    environment do where none are given.
    """
    bounds = ConnectionSettings() if connections is None else connections
    gateway = Gateway(settings, GatewayMetrics() if metrics is None else metrics, bounds)
    router = Router(lifespan=gateway.lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Requests need no router: the gateway reads the path itself.
        await (router if scope["type"] == "lifespan" else gateway)(scope, receive, send)

    return app


class Gateway:
    """Dispatches requests to the data plane, the control plane, or its own few answers."""

    def __init__(self, settings: GatewaySettings, metrics: GatewayMetrics, connections: ConnectionSettings) -> None:
        self._settings = settings
        self._metrics = metrics
        self._body_wait = BodyWait(connections.http_body_timeout_s, connections.http_body_stall_s)
        self._table = RouteTable()
        self._planes: Mapping[Plane, DataPlane | ControlPlane] = {}
        self._watching: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Opens the sessions, follows the routes and runs what listens to requests while the server runs."""
        settings = self._settings
        # The routes come over a session of their own: however many streams there are, its connection is free.
        async with (
            _engine_session(settings) as engines,
            _service_session(settings) as services,
            _service_session(settings) as routes,
        ):
            balancer = _balancer(settings)
            queues = Queues(balancer, max_waiting=settings.gateway_queue_length, wait_s=settings.gateway_queue_wait_s)
            waiting = WaitingRoom(settings.gateway_queue_length)
            hooks = build_hooks(Surroundings(settings, self._table, balancer, queues, waiting, engines, services))
            watcher = RouteWatcher(
                routes,
                self._table,
                on_swap=lambda compiled: self._follow(balancer, queues, compiled),
                kept=KeptRoutes(settings.gateway_state_dir),
                api_url=settings.api_url,
                token=settings.gateway_token,
                wait_s=settings.gateway_routes_wait_s,
            )
            watcher.load_kept()
            caller = ReplicaCaller(
                engines,
                balancer,
                first_event_timeout_s=settings.gateway_first_event_timeout_s,
                idle_timeout_s=settings.gateway_idle_timeout_s,
                retry_after_s=settings.gateway_retry_after_s,
            )
            announcer = Announcer((self._metrics.tell, *hooks.sinks), hooks.limits)
            dispatcher = Dispatcher(
                self._table, balancer, queues, caller, waiting=waiting, announcer=announcer, patience=_patience(settings)
            )
            self._planes = {
                Plane.DATA: DataPlane(
                    self._table,
                    dispatcher,
                    hooks,
                    max_body_bytes=settings.gateway_max_body_bytes,
                    request_timeout_s=settings.gateway_request_timeout_s,
                    retry_after_s=settings.gateway_retry_after_s,
                ),
                **self._control_planes(services),
            }
            state = GatewayState(self._table, balancer, queues, waiting.num_waiting, lambda: watcher.heard_at_s)
            self._metrics.watch(state)
            self._watching = asyncio.create_task(watcher.run())
            running = [self._watching, *(asyncio.create_task(work()) for work in hooks.background)]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
                self._metrics.forget(state)

    def _control_planes(self, services: aiohttp.ClientSession) -> dict[Plane, ControlPlane]:
        settings = self._settings
        return {
            Plane.API: ControlPlane(
                services,
                service="api",
                url=settings.api_url,
                head_timeout_s=lambda _request: settings.gateway_head_timeout_s,
                retry_after_s=settings.gateway_retry_after_s,
            ),
            Plane.REGISTRY: ControlPlane(
                services,
                service="registry",
                url=settings.registry_url,
                head_timeout_s=self._registry_head_timeout_s,
                retry_after_s=settings.gateway_retry_after_s,
            ),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. An unexpected failure is logged and answered in the shape of its plane."""
        request = Request.of(scope, receive, self._body_wait)
        answer = Answer(send, request.id)
        structlog.contextvars.bind_contextvars(request_id=request.id.decode("latin-1"))
        try:
            plane, refused = plane_of(request.raw_path), None
        except PathRefused as error:
            plane, refused = Plane.NOWHERE, error
        self._metrics.began(plane)
        try:
            with serving(plane, request, answer):
                await self._run(plane, refused, request, answer)
        finally:
            self._metrics.ended(plane, answer.status)

    async def _run(self, plane: Plane, refused: PathRefused | None, request: Request, answer: Answer) -> None:
        try:
            if refused is not None:
                await self._refuse(request, answer, refused)
            else:
                await self._answer(plane, request, answer)
        except ClientGone:
            return
        except BodyStalled as error:
            if not answer.started:
                answer.closes = True
                await self._refuse(request, answer, error)
        except asyncio.CancelledError:
            # The server stops, and its patience with this request has ended. A stream of events ends with one that says so.
            # Not raised again: the request's task ends here, and uvicorn would log the cancellation as a failure.
            if answer.is_open_stream:
                await answer.end(shutting_down().event())
            elif not answer.started:
                await self._refuse(request, answer, Unavailable("The gateway is shutting down; send the request again."))
        except Exception:
            _log.exception("request.failed", path=request.path, request_id=request.id.decode())
            if answer.is_open_stream:
                await answer.end(gateway_failed().event())
                return
            if answer.started:
                raise
            await self._refuse(request, answer, QuantryError("The gateway could not handle this request; its log says why."))

    async def _answer(self, plane: Plane, request: Request, answer: Answer) -> None:
        match plane:
            case Plane.ROOT:
                await answer.json({"name": "quantry", "data_plane": "/v1", "control_plane": "/api/v1", "health": "/healthz"})
            case Plane.HEALTH if self._table.current is None:
                await self._refuse(request, answer, Unavailable("The gateway has not learnt its routes yet."))
            case Plane.HEALTH | Plane.LIFE if self._watching is None or self._watching.done():
                await self._refuse(request, answer, Unavailable("The gateway no longer follows its routes; restart it."))
            case Plane.HEALTH | Plane.LIFE:
                await answer.json({"status": "ok"})
            case Plane.NOWHERE:
                hint = "Nothing answers this path; the data plane is under /v1, the control plane under /api/v1."
                await self._refuse(request, answer, NotFound(hint))
            case _:
                await self._planes[plane].answer(request, answer)

    def _follow(self, balancer: Balancer, queues: Queues, compiled: CompiledRoutes) -> None:
        balancer.keep_only(compiled.replica_ids())
        queues.refresh()
        self._metrics.follow(compiled)

    def _registry_head_timeout_s(self, request: Request) -> float:
        if takes_long(request.method, request.raw_path):
            return self._settings.gateway_registry_head_timeout_s
        return self._settings.gateway_head_timeout_s

    async def _refuse(self, request: Request, answer: Answer, error: QuantryError) -> None:
        await refuse(request, answer, error, retry_after_s=self._settings.gateway_retry_after_s)


def _balancer(settings: GatewaySettings) -> Balancer:
    ejection = Ejection(
        after=settings.gateway_eject_after,
        first_s=settings.gateway_eject_s,
        longest_s=settings.gateway_eject_max_s,
        clock_s=time.monotonic,
    )
    return Balancer(ejection)


def _patience(settings: GatewaySettings) -> Patience:
    return Patience(
        ready_wait_s=settings.gateway_ready_wait_s,
        wake_wait_s=settings.gateway_wake_wait_s,
        queue_wait_s=settings.gateway_queue_wait_s,
        retry_after_s=settings.gateway_retry_after_s,
    )


def _engine_session(settings: GatewaySettings) -> aiohttp.ClientSession:
    """Returns the session to engines: connections are kept, because here every tenth of a millisecond counts."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_CONNECTION_S),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.gateway_connect_timeout_s, sock_read=settings.gateway_idle_timeout_s
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"accept-encoding": "identity"},
        skip_auto_headers=("user-agent", "accept"),
    )


def _service_session(settings: GatewaySettings) -> aiohttp.ClientSession:
    """Returns a session to services. A connection is kept for less time than the services keep theirs, so that none is taken
    up again just as its service lets it go: the request could not be repeated, since nobody knows whether it was heard.

    Where a service has as many as it may, a request waits as long for a free one as for a connection.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=settings.gateway_service_connections, keepalive_timeout=_KEPT_CONNECTION_S),
        timeout=aiohttp.ClientTimeout(total=None, connect=settings.gateway_connect_timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
    )
