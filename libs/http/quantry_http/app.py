"""Makes a control-plane service: auth, problems, request ids, body limit, health and OpenAPI the same in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from quantry_http.body import DEFAULT_MAX_BODY_BYTES, BodyLimitMiddleware
from quantry_http.context import RequestContextMiddleware
from quantry_http.health import HealthCheck, health_router
from quantry_http.openapi import DocumentedApp, operation_id
from quantry_http.problems import install_problem_handlers, problem_responses
from quantry_store.database import Database

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    title: str,
    *,
    database: Database,
    health: Mapping[str, HealthCheck] | None = None,
    openapi_url: str | None = None,
    lifespan: Lifespan | None = None,
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    description: str = "",
) -> FastAPI:
    """Returns an app whose /healthz asks the database and every part in ``health``.

    The app does not close ``database``: whoever made it does, after serving.
    """
    app = DocumentedApp(
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
        responses=problem_responses(401, 403, 422, 500, 503),
    )
    app.state.database = database
    install_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=max_body_bytes)
    app.add_middleware(RequestContextMiddleware)  # added last, so outermost
    app.include_router(health_router({"database": database.ping, **(health or {})}))
    return app
