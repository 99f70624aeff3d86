"""``/api/v1/jobs/{id}/checkpoints/{step}/files``: what it takes to go on from a step of a training job."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from quantry_core.errors import NotFound
from quantry_core.names import FilePath
from quantry_core.vault import MAX_STEP
from quantry_core.versions import ManifestFile
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.artifacts.endpoints import JobId
from quantry_registry.downloads import DOWNLOAD_RESPONSES, WantedOf, download
from quantry_registry.parts import PartsOf

router = APIRouter(prefix="/jobs", tags=["checkpoints"])

Step = Annotated[int, Path(ge=0, le=MAX_STEP, description="Optimizer steps that were done.")]


class CheckpointFileList(BaseModel):
    """The files of a checkpoint, by path."""

    data: list[ManifestFile]


@router.get("/{job_id}/checkpoints/{step}/files", responses=problem_responses(404))
async def list_checkpoint_files(caller: Caller, database: Db, job_id: JobId, step: Step) -> CheckpointFileList:
    """Returns the files of a checkpoint, which are kept while the job may go on from them."""
    async with database.begin() as uow:
        return CheckpointFileList(data=await uow.checkpoints.files(caller.project_id, job_id, step))


@router.get("/{job_id}/checkpoints/{step}/files/{path:path}", response_class=StreamingResponse, responses=DOWNLOAD_RESPONSES)
async def get_checkpoint_file(
    *, caller: Caller, database: Db, parts: PartsOf, wanted: WantedOf, job_id: JobId, step: Step, path: FilePath
) -> Response:
    """Streams one of them, or one range of it. Its ETag is its SHA-256."""
    async with database.begin() as uow:
        files = await uow.checkpoints.files(caller.project_id, job_id, step)
    for file in files:
        if file.path == path:
            return await download(parts.vault, file, wanted)
    raise NotFound(f"step {step} of job {job_id!r} has no file {path!r}")
