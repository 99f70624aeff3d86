"""``/api/v1/jobs/{id}/artifacts``: what a job left beside its version and its evidence."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from quantry_core.ids import IdPrefix
from quantry_core.names import FilePath
from quantry_core.versions import ManifestFile
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.downloads import DOWNLOAD_RESPONSES, WantedOf, download
from quantry_registry.parts import PartsOf

router = APIRouter(prefix="/jobs", tags=["artifacts"])

JobId = Annotated[str, Path(pattern=rf"^{IdPrefix.JOB}_[0-9a-f]{{32}}$")]


class ArtifactList(BaseModel):
    """What a job left, by path."""

    data: list[ManifestFile]


@router.get("/{job_id}/artifacts", responses=problem_responses(404))
async def list_artifacts(caller: Caller, database: Db, job_id: JobId) -> ArtifactList:
    """Returns the files that a job left; none while it runs."""
    async with database.begin() as uow:
        await uow.jobs.get(caller.project_id, job_id)
        return ArtifactList(data=await uow.artifacts.list(caller.project_id, job_id))


@router.get("/{job_id}/artifacts/{path:path}", response_class=StreamingResponse, responses=DOWNLOAD_RESPONSES)
async def get_artifact(*, caller: Caller, database: Db, parts: PartsOf, wanted: WantedOf, job_id: JobId, path: FilePath) -> Response:
    """Streams one of them, or one range of it. Its ETag is its SHA-256."""
    async with database.begin() as uow:
        file = await uow.artifacts.file(caller.project_id, job_id, path)
    return await download(parts.vault, file, wanted)
