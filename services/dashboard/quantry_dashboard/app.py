"""The dashboard as one ASGI application: NiceGUI's pages, the two forms of the sign-in, logs as text, and its own few files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from nicegui import ui
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from quantry.errors import ApiError, ClientError
from quantry_dashboard import sign_in
from quantry_dashboard.asking import NotDone, SignedOut, ask
from quantry_dashboard.filters import parse
from quantry_dashboard.frame import head
from quantry_dashboard.guard import Guard
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.deployment import DeploymentPage
from quantry_dashboard.pages.deployments import PATH as DEPLOYMENTS_PATH
from quantry_dashboard.pages.deployments import DeploymentsPage
from quantry_dashboard.pages.job import JobPage
from quantry_dashboard.pages.job_list import JobListPage
from quantry_dashboard.pages.rollout import RolloutPage
from quantry_dashboard.settings import DashboardSettings

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
    app.add_middleware(Guard)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.include_router(sign_in.routes(door))
    _add_plain_answers(app, door)
    _add_pages(door)
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
        link("To the jobs", sign_in.HOME)


def _add_plain_answers(app: FastAPI, door: sign_in.Door) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/")
    def home() -> Response:
        return RedirectResponse(sign_in.HOME, 303)

    @app.get("/jobs/{job_id}/log")
    async def whole_log(request: Request, job_id: str) -> Response:
        session = door.session_of(request)
        if session is None:
            return sign_in.to_sign_in(request)
        try:
            text = await ask(session, lambda client: client.jobs.log(job_id))
        except SignedOut:
            door.sessions.end(session)
            return RedirectResponse(sign_in.form_address("over", request.url.path), 303)
        except NotDone as trouble:
            return PlainTextResponse(f"{trouble}\n", 404 if trouble.is_missing else 502)
        return PlainTextResponse(text, headers={"cache-control": "no-store"})


def _add_pages(door: sign_in.Door) -> None:
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
        sign_in.show_form(said, target)
        return None

    @ui.page("/jobs")
    def job_list(request: Request) -> Response | None:
        session = door.session_of(request)
        if session is None:
            return sign_in.to_sign_in(request)
        filters, problems = parse(request.query_params)
        JobListPage(session, filters, problems).build()
        return None

    @ui.page("/jobs/{job_id}")
    def job(request: Request, job_id: str) -> Response | None:
        session = door.session_of(request)
        if session is None:
            return sign_in.to_sign_in(request)
        JobPage(session, job_id).build()
        return None

    @ui.page(DEPLOYMENTS_PATH)
    def deployments(request: Request, after: str = "") -> Response | None:
        session = door.session_of(request)
        if session is None:
            return sign_in.to_sign_in(request)
        DeploymentsPage(session, after.strip() or None).build()
        return None

    @ui.page(f"{DEPLOYMENTS_PATH}/{{name}}")
    def deployment(request: Request, name: str) -> Response | None:
        session = door.session_of(request)
        if session is None:
            return sign_in.to_sign_in(request)
        DeploymentPage(session, name).build()
        return None

    @ui.page(f"{DEPLOYMENTS_PATH}/{{name}}/rollouts/{{rollout_id}}")
    def rollout(request: Request, name: str, rollout_id: str) -> Response | None:
        session = door.session_of(request)
        if session is None:
            return sign_in.to_sign_in(request)
        RolloutPage(session, name, rollout_id).build()
        return None
