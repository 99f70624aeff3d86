"""``/api/v1/datasets``: versioned texts and rows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from quantry_core.datasets import Dataset, DatasetKind, DatasetPreview, DatasetRecipe
from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs import DatasetRef
from quantry_core.names import Name
from quantry_core.pages import Page
from quantry_http.auth import Caller, Db
from quantry_http.body import allow_body
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_registry.datasets import service
from quantry_registry.datasets.intake import Intake
from quantry_registry.datasets.schemas import DatasetParams
from quantry_registry.downloads import DOWNLOAD_RESPONSES, WantedOf, download
from quantry_registry.parts import PartsOf
from quantry_store.database import Database

router = APIRouter(prefix="/datasets", tags=["datasets"])
_BODY = {
    "required": True,
    "content": {"text/plain": {"schema": {"type": "string"}}, "application/jsonl": {"schema": {"type": "string", "format": "binary"}}},
}

Ref = Annotated[DatasetRef, Path(description="dat_..., name@3, or name for the latest.")]
Kind = Annotated[DatasetKind | None, Query(description="What the body is; told by Content-Type, name and first line where not given.")]


def allow_dataset_body(request: Request, parts: PartsOf) -> None:
    """Lets this request's body be as long as a dataset may be."""
    allow_body(parts.settings.max_dataset_bytes)(request)


@router.get("")
async def list_datasets(caller: Caller, database: Db, page: PageParams, query: DatasetParams) -> Page[Dataset]:
    """Returns a page of datasets that fit, newest first, without the lines of rows that cannot be learned: each by itself has them."""
    async with database.begin() as uow:
        found = await uow.datasets.list(caller.project_id, query, after=page.after, limit=page.limit)
    return found.model_copy(update={"data": [dataset.listed for dataset in found.data]})


@router.get("/{ref}", responses=problem_responses(404))
async def get_dataset(caller: Caller, database: Db, ref: Ref) -> Dataset:
    """Returns a dataset; a deleted one by its id."""
    if not is_id(ref, IdPrefix.DATASET):
        return await _find(database, caller.project_id, ref)
    async with database.begin() as uow:
        return await uow.datasets.get(caller.project_id, ref)


@router.get("/{ref}/preview", responses=problem_responses(404))
async def preview_dataset(
    caller: Caller, database: Db, parts: PartsOf, ref: Ref, limit: Annotated[int, Query(ge=1, le=100)] = 10
) -> DatasetPreview:
    """Returns the first lines of a text, or the first rows."""
    return await service.preview(parts.vault, await _find(database, caller.project_id, ref), limit)


@router.get("/{ref}/content", response_class=StreamingResponse, responses=DOWNLOAD_RESPONSES)
async def get_content(caller: Caller, database: Db, parts: PartsOf, wanted: WantedOf, ref: Ref) -> Response:
    """Streams a dataset's file, or one range of it. Its ETag is its SHA-256."""
    return await download(parts.vault, service.file_of(await _find(database, caller.project_id, ref)), wanted)


@router.put(
    "/{name}",
    dependencies=[Depends(allow_dataset_body)],
    status_code=201,
    responses={200: {"model": Dataset, "description": "The name has these bytes already."}, **problem_responses(409, 413, 507)},
    openapi_extra={"requestBody": _BODY},
)
async def put_dataset(
    *,
    caller: Caller,
    database: Db,
    parts: PartsOf,
    request: Request,
    response: Response,
    name: Name,
    kind: Kind = None,
    content_type: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Dataset:
    """Takes the request's body as the next version of a dataset. The same bytes again are the same version."""
    intake = Intake(name, kind, content_type)
    dataset, is_new = await service.add_dataset(database, parts.vault, caller, name, request.stream(), intake=intake)
    return answer_made(request, response, dataset, is_new)


@router.post(
    "/{name}/derive",
    status_code=201,
    responses={200: {"model": Dataset, "description": "The name has these bytes already."}, **problem_responses(404, 409)},
)
async def derive_dataset(
    *, caller: Caller, database: Db, parts: PartsOf, request: Request, response: Response, name: Name, recipe: DatasetRecipe
) -> Dataset:
    """Makes the next version of a dataset from others. The same recipe of the same parents is the same version."""
    dataset, is_new = await service.derive_dataset(database, parts, caller, name, recipe)
    return answer_made(request, response, dataset, is_new)


async def _find(database: Database, project_id: str, ref: str) -> Dataset:
    async with database.begin() as uow:
        return await uow.datasets.resolve(project_id, ref)


def answer_made(request: Request, response: Response, dataset: Dataset, is_new: bool) -> Dataset:
    """Returns the dataset as it is answered: made now, or there already, with where it is found."""
    response.status_code = 201 if is_new else 200
    prefix = request.url.path.partition("/datasets/")[0].partition("/deployments/")[0]
    response.headers["Location"] = f"{prefix}/datasets/{dataset.id}"
    return dataset
