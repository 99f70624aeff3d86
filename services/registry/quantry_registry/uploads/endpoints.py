"""``/api/v1/uploads``: files of a checkpoint, sent one by one and imported together."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response

from quantry_core.names import FilePath
from quantry_core.pages import Page
from quantry_core.uploads import Upload
from quantry_core.versions import ManifestFile
from quantry_http.auth import Caller, Db
from quantry_http.body import allow_body
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_registry.parts import PartsOf
from quantry_registry.uploads import service
from quantry_registry.uploads.bodies import promised_sha256

router = APIRouter(prefix="/uploads", tags=["uploads"])
_BYTES_BODY = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

UploadId = Annotated[str, Path(pattern=r"^upl_[0-9a-f]{32}$", description="upl_...")]
ContentDigest = Annotated[str | None, Header(description="sha-256=:<base64>: as RFC 9530 has it; the bytes are checked against it.")]


async def allow_file_body(request: Request, parts: PartsOf) -> None:
    """Lets this request's body be as long as a file of an upload may be."""
    allow_body(parts.settings.max_upload_file_bytes)(request)


@router.post("", status_code=201)
async def create_upload(caller: Caller, database: Db, parts: PartsOf, request: Request, response: Response) -> Upload:
    """Makes an upload without files. What is not imported until it expires is removed."""
    async with database.begin() as uow:
        upload = await uow.uploads.create(caller, lifetime_s=parts.settings.upload_lifetime_s)
        await uow.audit.record(caller, "upload.create", "upload", upload.id)
    response.headers["Location"] = f"{request.url.path}/{upload.id}"
    return upload


@router.get("")
async def list_uploads(caller: Caller, database: Db, page: PageParams) -> Page[Upload]:
    """Returns a page of uploads that have not expired, newest first, without their files."""
    async with database.begin() as uow:
        return await uow.uploads.list(caller.project_id, after=page.after, limit=page.limit)


@router.get("/{upload_id}", responses=problem_responses(404))
async def get_upload(caller: Caller, database: Db, upload_id: UploadId) -> Upload:
    """Returns an upload with the files that have arrived."""
    async with database.begin() as uow:
        return await uow.uploads.get(caller.project_id, upload_id)


@router.put(
    "/{upload_id}/files/{path:path}",
    dependencies=[Depends(allow_file_body)],
    responses=problem_responses(404, 408, 409, 413),
    openapi_extra={"requestBody": _BYTES_BODY},
)
async def put_file(
    *,
    caller: Caller,
    database: Db,
    parts: PartsOf,
    request: Request,
    upload_id: UploadId,
    path: FilePath,
    content_digest: ContentDigest = None,
) -> ManifestFile:
    """Streams the request's body into the vault as one file of the upload. The same path again takes the other's place."""
    promised = promised_sha256(content_digest)
    return await service.add_file(database, parts, caller, upload_id, path, pieces=request.stream(), sha256=promised)


@router.delete("/{upload_id}", status_code=204, responses=problem_responses(404, 409))
async def delete_upload(caller: Caller, database: Db, upload_id: UploadId) -> None:
    """Removes an upload that no unfinished job imports. What was imported from it stays."""
    async with database.begin() as uow:
        await uow.uploads.delete(caller.project_id, upload_id)
        await uow.audit.record(caller, "upload.delete", "upload", upload_id)
