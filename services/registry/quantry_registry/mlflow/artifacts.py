"""``/mlflow/api/2.0/mlflow-artifacts/artifacts``: the files of versions below ``models/<name>/<number>``, as MLflow's client reads them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from quantry_core.errors import NotFound
from quantry_core.versions import ManifestFile, Version
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.downloads import DOWNLOAD_RESPONSES, WantedOf, download
from quantry_registry.mlflow.schemas import MODELS_FOLDER, FileInfo, SomeFiles
from quantry_registry.mlflow.service import find_version
from quantry_registry.parts import PartsOf
from quantry_store.database import Database

router = APIRouter(prefix="/api/2.0/mlflow-artifacts/artifacts", tags=["mlflow"])

ArtifactPath = Annotated[str, Path(max_length=1024, description="models/<name>/<number>/<path of a file>")]
_NOTHING = "artifacts here are the files of versions: models/<name>/<number>/<path>"


@router.get("", responses=problem_responses(404))
async def list_mlflow_artifacts(
    caller: Caller, database: Db, path: Annotated[str, Query(max_length=1024, description="models/<name>/<number>[/<folder>]")] = ""
) -> SomeFiles:
    """Returns what lies in a folder of a version; nothing for a file, which is how MLflow's client tells the two apart."""
    version, folder = await _version_at(database, caller.project_id, path)
    async with database.begin() as uow:
        files = await uow.versions.files(version.id)
    prefix = f"{folder}/" if folder else ""
    inside = [(file, file.path.removeprefix(prefix)) for file in files if file.path.startswith(prefix)]
    folders = sorted({rest.partition("/")[0] for _, rest in inside if "/" in rest})
    found = [FileInfo(path=rest, is_dir=False, file_size=file.size_bytes) for file, rest in inside if "/" not in rest]
    if not inside and folder not in {file.path for file in files}:
        raise NotFound(f"version {version.ref} has no file or folder {folder[:80]!r}")
    return SomeFiles(files=[*found, *(FileInfo(path=name, is_dir=True) for name in folders)])


@router.get("/{path:path}", response_class=StreamingResponse, responses=DOWNLOAD_RESPONSES)
async def get_mlflow_artifact(*, caller: Caller, database: Db, parts: PartsOf, wanted: WantedOf, path: ArtifactPath) -> Response:
    """Streams a file of a version, or one range of it."""
    return await download(parts.vault, await _file_at(database, caller.project_id, path), wanted)


async def _file_at(database: Database, project_id: str, path: str) -> ManifestFile:
    version, inside = await _version_at(database, project_id, path)
    async with database.begin() as uow:
        return await uow.versions.file(project_id, version.id, inside)


async def _version_at(database: Database, project_id: str, path: str) -> tuple[Version, str]:
    folder, name, number, inside = [*path.strip("/").split("/", 3), "", "", "", ""][:4]
    if folder != MODELS_FOLDER or not name or not number:
        raise NotFound(_NOTHING)
    async with database.begin() as uow:
        return await find_version(uow, project_id, name, number), inside
