"""The dashboard as one ASGI application: NiceGUI's pages, the two forms of the sign-in, files of jobs, and its own few files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Request
from nicegui import ui
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from quantry.errors import ApiError, ClientError
from quantry_dashboard import audit_files, downloads, permalinks, provider_sign_in, registry_files, sign_in, uploads
from quantry_dashboard.frame import head
from quantry_dashboard.guard import Guard
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages import (
    admin_audit,
    admin_keys,
    admin_projects,
    admin_webhook,
    admin_webhooks,
    compare,
    dataset,
    datasets,
    deployment,
    deployments,
    job,
    job_list,
    model,
    models,
    new_schedule,
    overview,
    pipeline,
    pipelines,
    rollout,
    schedule,
    schedules,
    submit,
    version,
    workers,
)
from quantry_dashboard.provider import Provider
from quantry_dashboard.sessions import Session
from quantry_dashboard.settings import DashboardSettings


class PageAt(NamedTuple):
    """An address, and what builds its page for whoever is signed in."""

    path: str
    """As FastAPI writes it; what stands in braces comes in ``request.path_params``."""
    show: Callable[[Session, Request], None]
    """Gets the session and the request: ``request.path_params`` and ``request.query_params`` are text that anybody may have written."""


# One line for each page: a module of pages/ exports ``show(session, request)``, which builds a Frame and fills its content. The first path
# that fits an address is taken. Parts to build with: nodes.py (elements), pages/parts.py (crumbs, tabs, empty states, copyable ids),
# pages/listing.py (a page of a long list, live), pages/filtering.py (fields that narrow it down), pages/panels.py (facts, tables),
# pages/confirmed.py (a question before a change), pages/charts.py. Each place of the navigation is a line of frame.PLACES.
PAGES = (
    PageAt("/", overview.show),
    PageAt("/jobs", job_list.show),
    PageAt("/jobs/new", submit.show),
    PageAt("/jobs/{job_id}", job.show),
    PageAt("/pipelines", pipelines.show),
    PageAt("/pipelines/{pipeline_id}", pipeline.show),
    PageAt("/models", models.show),
    PageAt("/models/{name}", model.show),
    PageAt("/versions/{ref}", version.show),
    PageAt("/compare", compare.show),
    PageAt("/datasets", datasets.show),
    PageAt("/datasets/{ref}", dataset.show),
    PageAt("/deployments", deployments.show),
    PageAt("/deployments/{name}", deployment.show),
    PageAt("/deployments/{name}/rollouts/{rollout_id}", rollout.show),
    PageAt("/schedules", schedules.show),
    PageAt("/schedules/new", new_schedule.show),
    PageAt("/schedules/{schedule_id}", schedule.show),
    PageAt("/workers", workers.show),
    PageAt("/admin/keys", admin_keys.show),
    PageAt("/admin/audit", admin_audit.show),
    PageAt("/admin/webhooks", admin_webhooks.show),
    PageAt("/admin/webhooks/{webhook_id}", admin_webhook.show),
    PageAt("/admin/projects", admin_projects.show),
)

STATIC = Path(__file__).parent / "static"
RECONNECT_S = 3.0
"""A page whose socket is gone for so long is closed, and stops reading."""


def build_app(settings: DashboardSettings) -> FastAPI:
    """Returns the dashboard. Called once in a process: NiceGUI has one application per process."""
    door = sign_in.Door(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        door.sessions.end_all()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.sessions = door.sessions
    app.add_middleware(Guard)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.include_router(sign_in.routes(door))
    provider = None if settings.oidc_issuer is None else Provider(settings)
    if provider is not None:
        app.include_router(provider_sign_in.routes(door, provider, settings))
    app.include_router(downloads.routes(door))
    app.include_router(audit_files.routes(door))
    app.include_router(permalinks.routes(door))
    app.include_router(registry_files.routes(door))
    app.include_router(uploads.routes(door))
    _add_health(app)
    _add_pages(door, provider)
    ui.run_with(
        app,
        root=_show_missing_page,
        title="Quantry",
        favicon=STATIC / "favicon.svg",
        dark=None,
        language="en-US",
        reconnect_timeout=RECONNECT_S,
        # The pages have a style sheet of their own, and bind nothing.
        tailwind=False,
        binding_refresh_interval=None,
        show_welcome_message=False,
    )
    return app


def _show_missing_page() -> None:
    """Builds what every other address shows."""
    head("No such page")
    ui.context.client.status_code = 404
    with Node("div", classes="sign-in", id="content"):
        Node("h1", "There is no such page")
        link("To the overview", sign_in.HOME)


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}


def _add_pages(door: sign_in.Door, provider: Provider | None) -> None:
    @ui.page("/sign-in")
    async def form(request: Request, said: str = "", next: str = sign_in.HOME) -> Response | None:
        target = sign_in.local_target(next)
        session = door.session_of(request)
        if session is not None:
            # A page sends people here when the API refuses their key: then the session is no good either.
            try:
                await asyncio.to_thread(session.client.whoami)
            except ApiError as error:
                if error.status == 401:
                    door.sessions.end(session)
            except ClientError:
                pass
            if not session.is_over:
                return RedirectResponse(target, 303)
        sign_in.show_form(said, target, None if provider is None else provider.name)
        return None

    for place in PAGES:
        _add_page(door, place)


def _add_page(door: sign_in.Door, place: PageAt) -> None:
    @ui.page(place.path)
    def page(request: Request) -> Response | None:
        session = door.session_of(request)
        if session is None:
            return sign_in.to_sign_in(request)
        place.show(session, request)
        return None
