"""``/v1/files``: OpenAI's files API. A file is a dataset, and its id a dataset's."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from quantry_core.datasets import Dataset, FilePurpose
from quantry_core.errors import InvalidInput, UnknownDataset
from quantry_core.ids import IdPrefix, is_id
from quantry_core.pages import MAX_LIMIT
from quantry_http.auth import Caller, Db
from quantry_http.body import allow_body
from quantry_http.problems import problem_responses
from quantry_registry.datasets.service import file_of
from quantry_registry.downloads import DOWNLOAD_RESPONSES, WantedOf, download
from quantry_registry.files.form import FORM_BYTES, FileForm
from quantry_registry.files.schemas import FileDeleted, FileList, FileObject
from quantry_registry.files.service import add_file, delete_file
from quantry_registry.parts import PartsOf
from quantry_store.database import Database

router = APIRouter(prefix="/files", tags=["openai files"])

MAX_LISTED_FILES = 10_000
"""What OpenAI's API lets a client ask for; a page has at most MAX_LIMIT all the same, and says that there is more."""

_ID_PATTERN = rf"^{IdPrefix.DATASET}_[0-9a-f]{{32}}$"
_NEWEST_FIRST = "desc"

_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "JSON Lines, or UTF-8 text."},
                    "purpose": {"type": "string", "enum": list(FilePurpose)},
                },
            }
        }
    },
}

FileId = Annotated[str, Path(description="dat_...")]


def allow_file_body(request: Request, parts: PartsOf) -> None:
    """Lets this request's body be as long as a form with the longest dataset."""
    allow_body(parts.settings.max_dataset_bytes + FORM_BYTES)(request)


@router.post(
    "",
    dependencies=[Depends(allow_file_body)],
    responses=problem_responses(400, 409, 413, 507),
    openapi_extra={"requestBody": _FORM},
)
async def create_file_object(caller: Caller, database: Db, parts: PartsOf, request: Request) -> FileObject:
    """Takes a file in as the next version of the dataset that it is named after. The same bytes again are the same file."""
    with FileForm(request.headers.get("content-type")) as form:
        await form.read(request.stream())
        return FileObject.of(await add_file(database, parts.vault, caller, form))


@router.get("")
async def list_file_objects(
    *,
    caller: Caller,
    database: Db,
    after: Annotated[str | None, Query(pattern=_ID_PATTERN, description="The last_id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED_FILES, description=f"Of one page; {MAX_LIMIT} at most are given.")] = MAX_LIMIT,
    order: Annotated[str, Query(description="desc, newest first, is the only order there is.")] = _NEWEST_FIRST,
    purpose: Annotated[FilePurpose | None, Query(description="Files of this purpose alone.")] = None,
) -> FileList:
    """Returns a page of the project's datasets as files, newest first."""
    if order != _NEWEST_FIRST:
        raise InvalidInput(f"order: files are listed newest first; leave it out, or ask for {_NEWEST_FIRST}")
    async with database.begin() as uow:
        return FileList.of(await uow.datasets.list_files(caller.project_id, purpose, after=after, limit=limit))


@router.get("/{file_id}", responses=problem_responses(404))
async def get_file_object(caller: Caller, database: Db, file_id: FileId) -> FileObject:
    """Returns a file."""
    return FileObject.of(await _find(database, caller.project_id, file_id))


@router.get("/{file_id}/content", response_class=StreamingResponse, responses=DOWNLOAD_RESPONSES)
async def get_file_object_content(caller: Caller, database: Db, parts: PartsOf, wanted: WantedOf, file_id: FileId) -> Response:
    """Streams a file's bytes as they were uploaded."""
    return await download(parts.vault, file_of(await _find(database, caller.project_id, file_id)), wanted)


@router.delete("/{file_id}", responses=problem_responses(404, 409))
async def delete_file_object(caller: Caller, database: Db, file_id: FileId) -> FileDeleted:
    """Deletes a file that nothing needs; as a dataset it can be restored for a while."""
    async with database.begin() as uow:
        await delete_file(uow, _checked(file_id), who=caller)
    return FileDeleted(id=file_id)


async def _find(database: Database, project_id: str, file_id: str) -> Dataset:
    async with database.begin() as uow:
        return await uow.datasets.resolve(project_id, _checked(file_id))


def _checked(file_id: str) -> str:
    """Returns an id; raises UnknownDataset for what is none: no name stands for a file."""
    if not is_id(file_id, IdPrefix.DATASET):
        raise UnknownDataset(f"there is no file {file_id[:80]!r}: the id of a file begins with {IdPrefix.DATASET}_")
    return file_id
