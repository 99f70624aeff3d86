"""Makes a control-plane service: auth, problems, request ids, body limit, health and OpenAPI the same in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from quantry_core.permissions import PERMISSIONS, Need
from quantry_http.body import BodyLimitMiddleware
from quantry_http.context import RequestContextMiddleware
from quantry_http.health import HealthCheck, health_router
from quantry_http.limits import RequestLimits
from quantry_http.metrics import Exposition, metrics_router
from quantry_http.openapi import DocumentedApp, operation_id
from quantry_http.problems import install_problem_handlers, problem_responses
from quantry_http.settings import HttpSettings
from quantry_store.database import Database
from quantry_telemetry.connections import ConnectionSettings
from quantry_telemetry.http_metrics import HttpMetrics

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    title: str,
    *,
    database: Database,
    health: Mapping[str, HealthCheck] | None = None,
    openapi_url: str | None = None,
    lifespan: Lifespan | None = None,
    settings: HttpSettings | None = None,
    connections: ConnectionSettings | None = None,
    description: str = "",
    permissions: Mapping[tuple[str, str], Need] = PERMISSIONS,
    metrics: Exposition | None = None,
) -> FastAPI:
    """Returns an app whose /healthz asks the database and every part in ``health``, and whose /metrics shows ``metrics`` and what it
    counts of its requests. A route that is not in ``permissions`` cannot be added to it. ``settings`` and ``connections`` are those of
    the environment where none are given.

    The app does not close ``database``: whoever made it does, after serving.
    """
    exposition = Exposition(CollectorRegistry()) if metrics is None else metrics
    app = DocumentedApp(
        permissions=permissions,
        title=title,
        description=description,
        version="0.1.0",
        openapi_url=openapi_url,
        # The interactive pages would load scripts from elsewhere; the document itself is enough.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        responses=problem_responses(401, 403, 422, 429, 500, 503),
    )
    chosen = HttpSettings() if settings is None else settings
    app.state.database = database
    app.state.exposition = exposition
    app.state.limits = RequestLimits(chosen)
    install_problem_handlers(app)
    bounds = ConnectionSettings() if connections is None else connections
    app.add_middleware(
        BodyLimitMiddleware, max_bytes=chosen.max_body_bytes, wait_s=bounds.http_body_timeout_s, stall_s=bounds.http_body_stall_s
    )
    app.add_middleware(RequestContextMiddleware, metrics=HttpMetrics(exposition.registry))  # added last, so outermost
    app.include_router(health_router({"database": database.ping, **(health or {})}))
    app.include_router(metrics_router(exposition, database))
    return app
