"""``/api/v1/versions``: versions, their lineage and their files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from quantry_core.errors import RangeNotSatisfiable
from quantry_core.jobs import VersionRef
from quantry_core.names import FilePath, Name
from quantry_core.pages import Page
from quantry_core.versions import Lineage, ManifestFile, Version, VersionDetail
from quantry_http.auth import Db, Operator, Viewer
from quantry_http.pages import PageParams
from quantry_http.problems import problem_response, problem_responses
from quantry_registry.models.schemas import VERSION_ID_PATTERN
from quantry_registry.parts import PartsOf
from quantry_registry.versions import service
from quantry_registry.versions.ranges import etag_of, matches, requested_range

router = APIRouter(prefix="/versions", tags=["versions"])
_NOT_FOUND = problem_responses(404)
_FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "description": "The file."},
    206: {"description": "The range that was asked for."},
    304: {"description": "If-None-Match names these very bytes."},
    **problem_responses(404, 416),
}

Ref = Annotated[VersionRef, Path(description="ver_..., name@3, name@alias, or name for the latest ready version.")]
ModelFilter = Annotated[Name | None, Query(description="Only versions of this model.")]


@router.get("")
async def list_versions(caller: Viewer, database: Db, page: PageParams, model: ModelFilter = None) -> Page[Version]:
    """Returns a page of versions, newest first."""
    async with database.begin() as uow:
        return await uow.versions.list(caller.project_id, model, page.after, page.limit)


@router.get("/{ref}", responses=_NOT_FOUND)
async def get_version(caller: Viewer, database: Db, ref: Ref) -> VersionDetail:
    """Returns a version with its files, lineage edges and evidence."""
    async with database.begin() as uow:
        version = await uow.versions.resolve(caller.project_id, ref)
        return await uow.versions.detail(caller.project_id, version.id)


@router.delete("/{version_id}", status_code=204, responses=problem_responses(404, 409))
async def delete_version(caller: Operator, database: Db, version_id: Annotated[str, Path(pattern=VERSION_ID_PATTERN)]) -> None:
    """Deletes a version that nothing depends on. Takes an id alone: what a name means may change in between."""
    async with database.begin() as uow:
        await uow.versions.delete(caller.project_id, version_id, who=caller)


@router.get("/{ref}/lineage", responses=_NOT_FOUND)
async def get_lineage(caller: Viewer, database: Db, ref: Ref) -> Lineage:
    """Returns every ancestor and descendant of a version."""
    async with database.begin() as uow:
        version = await uow.versions.resolve(caller.project_id, ref)
        return await uow.versions.lineage(caller.project_id, version.id)


@router.get("/{ref}/files/{path:path}", response_class=StreamingResponse, responses=_FILE_RESPONSES)
async def get_file(
    *,
    caller: Viewer,
    database: Db,
    parts: PartsOf,
    request: Request,
    ref: Ref,
    path: FilePath,
    range_: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Streams a file, or one range of it. Its ETag is its SHA-256."""
    file = await service.find_file(database, caller.project_id, ref, path)
    etag = etag_of(file.sha256)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    try:
        wanted = requested_range(range_, if_range, etag, file.size_bytes)
    except RangeNotSatisfiable as error:
        return problem_response(error.problem(request.url.path), {"Content-Range": f"bytes */{file.size_bytes}"})
    headers = _file_headers(file)
    if wanted is None:
        return StreamingResponse(await service.open_file(parts.vault, file, 0, file.size_bytes), headers=headers)
    headers |= {"Content-Range": wanted.content_range, "Content-Length": str(wanted.length)}
    return StreamingResponse(await service.open_file(parts.vault, file, wanted.start, wanted.length), status_code=206, headers=headers)


@router.head("/{ref}/files/{path:path}", include_in_schema=False)
async def head_file(caller: Viewer, database: Db, ref: Ref, path: FilePath) -> Response:
    """Returns the headers of a file."""
    return Response(headers=_file_headers(await service.find_file(database, caller.project_id, ref, path)))


def _file_headers(file: ManifestFile) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{file.path.rpartition("/")[2]}"',
        "Content-Length": str(file.size_bytes),
        "Content-Type": "application/octet-stream",
        "ETag": etag_of(file.sha256),
        "X-Content-Type-Options": "nosniff",
    }
