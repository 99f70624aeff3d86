"""``/api/v1/versions``: versions, their lineage and their files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from quantry_core.comparisons import Comparison
from quantry_core.jobs import VersionRef
from quantry_core.lineage_pictures import lineage_mermaid, lineage_svg
from quantry_core.names import FilePath
from quantry_core.pages import Page
from quantry_core.version_notes import ListedVersion, VersionNotes, VersionNotesChange
from quantry_core.versions import Lineage, VersionDetail
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_registry.downloads import DOWNLOAD_RESPONSES, WantedOf, download, download_headers
from quantry_registry.parts import PartsOf
from quantry_registry.versions import service
from quantry_registry.versions.schemas import VersionParams

router = APIRouter(prefix="/versions", tags=["versions"])
_NOT_FOUND = problem_responses(404)

Ref = Annotated[VersionRef, Path(description="ver_..., name@3, name@alias, or name for the latest ready version.")]
SideRef = Annotated[VersionRef, Query(description="ver_..., name@3, name@alias, or name for the latest ready version.")]
_MARKDOWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/markdown": {"schema": {"type": "string"}}}, "description": "The card."}
}
_SVG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}}}


@router.get("", responses=_NOT_FOUND)
async def list_versions(caller: Caller, database: Db, page: PageParams, query: VersionParams) -> Page[ListedVersion]:
    """Returns a page of versions that fit, newest first."""
    async with database.begin() as uow:
        return await uow.version_search.page(caller.project_id, query, after=page.after, limit=page.limit)


# Before the versions by their ref, or "compare" would be one.
@router.get("/compare", responses=_NOT_FOUND)
async def compare_versions(caller: Caller, database: Db, left: SideRef, right: SideRef) -> Comparison:
    """Returns what tells two versions apart: files, recipe, evidence, and how they are related."""
    return await service.comparison_of(database, caller.project_id, left, right)


@router.get("/{ref}", responses=_NOT_FOUND)
async def get_version(caller: Caller, database: Db, ref: Ref) -> VersionDetail:
    """Returns a version with its files, lineage edges and evidence."""
    async with database.begin() as uow:
        version = await uow.versions.resolve(caller.project_id, ref)
        return await uow.versions.detail(caller.project_id, version.id)


@router.get("/{ref}/lineage", responses=_NOT_FOUND)
async def get_lineage(caller: Caller, database: Db, ref: Ref) -> Lineage:
    """Returns every ancestor of a version, and its descendants: the nearest 500 where there are more."""
    async with database.begin() as uow:
        version = await uow.versions.resolve(caller.project_id, ref)
        return await uow.versions.lineage(caller.project_id, version.id)


@router.get("/{ref}/lineage.svg", responses=_NOT_FOUND | _SVG, response_class=Response)
async def get_lineage_picture(caller: Caller, database: Db, ref: Ref) -> Response:
    """Returns the lineage as a picture."""
    # A script in it could do nothing: it has none, and every label is escaped. Said to browsers all the same.
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"}
    return Response(lineage_svg(await get_lineage(caller, database, ref)), media_type="image/svg+xml", headers=headers)


@router.get("/{ref}/lineage.mmd", responses=_NOT_FOUND, response_class=PlainTextResponse)
async def get_lineage_text(caller: Caller, database: Db, ref: Ref) -> str:
    """Returns the lineage as Mermaid text, for documents."""
    return lineage_mermaid(await get_lineage(caller, database, ref))


@router.get("/{ref}/card", responses=_NOT_FOUND | _MARKDOWN, response_class=Response)
async def get_card(caller: Caller, database: Db, ref: Ref) -> Response:
    """Returns the model card that an export writes: what it is, how it was made, how good it is, how to serve it."""
    card = await service.card_of(database, caller.project_id, ref)
    return Response(card, media_type="text/markdown; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"})


@router.get("/{ref}/notes", responses=_NOT_FOUND)
async def get_notes(caller: Caller, database: Db, ref: Ref) -> VersionNotes:
    """Returns tags and notes of a version."""
    async with database.begin() as uow:
        return await uow.version_notes.get(await uow.versions.resolve(caller.project_id, ref))


@router.patch("/{ref}/notes", responses=_NOT_FOUND)
async def change_notes(caller: Caller, database: Db, ref: Ref, change: VersionNotesChange) -> VersionNotes:
    """Changes tags or notes of a version; what is left out stays. The version itself never changes."""
    async with database.begin() as uow:
        return await uow.version_notes.change(await uow.versions.resolve(caller.project_id, ref), change, caller)


@router.get("/{ref}/files/{path:path}", response_class=StreamingResponse, responses=DOWNLOAD_RESPONSES)
async def get_file(*, caller: Caller, database: Db, parts: PartsOf, wanted: WantedOf, ref: Ref, path: FilePath) -> Response:
    """Streams a file, or one range of it. Its ETag is its SHA-256."""
    return await download(parts.vault, await service.find_file(database, caller.project_id, ref, path), wanted)


@router.head("/{ref}/files/{path:path}", include_in_schema=False)
async def head_file(caller: Caller, database: Db, ref: Ref, path: FilePath) -> Response:
    """Returns the headers of a file."""
    return Response(headers=download_headers(await service.find_file(database, caller.project_id, ref, path)))
