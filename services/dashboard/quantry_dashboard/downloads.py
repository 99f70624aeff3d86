"""What the dashboard hands on as files: logs as text, and what jobs left. Asked of the API under the key of whoever is signed in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, PlainTextResponse, Response

from quantry import Client
from quantry_dashboard import sign_in
from quantry_dashboard.in_place_of_files import asked_for


def routes(door: sign_in.Door) -> APIRouter:
    """Returns the addresses of files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/jobs/{job_id}/log")
    async def whole_log(request: Request, job_id: str) -> Response:
        log = await asked_for(door, request, lambda client: client.jobs.log(job_id))
        return log if isinstance(log, Response) else PlainTextResponse(log, headers={"cache-control": "no-store"})

    @router.get("/jobs/{job_id}/artifacts/{path:path}")
    async def artifact(request: Request, job_id: str, path: str) -> Response:
        fetched = await asked_for(door, request, lambda client: _fetched(client, job_id, path))
        return fetched if isinstance(fetched, Response) else _as_file(fetched)

    return router


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
