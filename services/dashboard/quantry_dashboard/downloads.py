"""What the dashboard hands on as files: logs as text, and what jobs left. Asked of the API under the key of whoever is signed in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response

from quantry import Client
from quantry_dashboard import sign_in
from quantry_dashboard.asking import NotDone, SignedOut, T, ask
from quantry_dashboard.sessions import Session


def routes(door: sign_in.Door) -> APIRouter:
    """Returns the addresses of files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/jobs/{job_id}/log")
    async def whole_log(request: Request, job_id: str) -> Response:
        def as_text(log: str) -> Response:
            return PlainTextResponse(log, headers={"cache-control": "no-store"})

        return await _answer(door, request, lambda client: client.jobs.log(job_id), as_text)

    @router.get("/jobs/{job_id}/artifacts/{path:path}")
    async def artifact(request: Request, job_id: str, path: str) -> Response:
        return await _answer(door, request, lambda client: _fetched(client, job_id, path), _as_file)

    return router


async def _answer(door: sign_in.Door, request: Request, question: Callable[[Client], T], as_answer: Callable[[T], Response]) -> Response:
    session: Session | None = door.session_of(request)
    if session is None:
        return sign_in.to_sign_in(request)
    try:
        said = await ask(session, question)
    except SignedOut:
        door.sessions.end(session)
        return RedirectResponse(sign_in.form_address("over", request.url.path), 303)
    except NotDone as trouble:
        return PlainTextResponse(f"{trouble}\n", 404 if trouble.is_missing else 502)
    return as_answer(said)


def _fetched(client: Client, job_id: str, path: str) -> Path | None:
    """Returns a file of its own with an artifact's bytes, checked against their digest; None where the job left no such file."""
    file = next((known for known in client.jobs.artifacts(job_id) if known.path == path), None)
    if file is None:
        return None
    directory = Path(tempfile.mkdtemp(prefix="quantry-dashboard-"))
    try:
        return client.jobs.download_artifact(job_id, file, directory / Path(path).name)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _as_file(fetched: Path | None) -> Response:
    if fetched is None:
        return PlainTextResponse("The job left no such file.\n", 404)
    # As a file to keep, whatever it is: nothing that a job wrote is shown as a page of this origin.
    return FileResponse(
        fetched,
        media_type="application/octet-stream",
        filename=fetched.name,
        headers={"cache-control": "no-store"},
        background=BackgroundTask(shutil.rmtree, fetched.parent, ignore_errors=True),
    )
