"""``/api/v1/datasets``: versioned texts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from quantry_core.jobs import DatasetRef
from quantry_core.names import Name
from quantry_core.pages import Page
from quantry_core.versions import Dataset
from quantry_http.auth import Db, Operator, Viewer
from quantry_http.body import allow_body
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_registry.datasets import service
from quantry_registry.parts import PartsOf

router = APIRouter(prefix="/datasets", tags=["datasets"])
_TEXT_BODY = {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}}

Ref = Annotated[DatasetRef, Path(description="dat_..., name@3, or name for the latest.")]


def allow_dataset_body(request: Request, parts: PartsOf) -> None:
    """Lets this request's body be as long as a dataset may be."""
    allow_body(parts.settings.max_dataset_bytes)(request)


@router.get("")
async def list_datasets(caller: Viewer, database: Db, page: PageParams) -> Page[Dataset]:
    """Returns a page of datasets, newest first."""
    async with database.begin() as uow:
        return await uow.datasets.list(caller.project_id, after=page.after, limit=page.limit)


@router.get("/{ref}", responses=problem_responses(404))
async def get_dataset(caller: Viewer, database: Db, ref: Ref) -> Dataset:
    """Returns a dataset."""
    async with database.begin() as uow:
        return await uow.datasets.resolve(caller.project_id, ref)


@router.put(
    "/{name}",
    dependencies=[Depends(allow_dataset_body)],
    status_code=201,
    responses={200: {"model": Dataset, "description": "The name has this text already."}, **problem_responses(413)},
    openapi_extra={"requestBody": _TEXT_BODY},
)
async def put_dataset(*, caller: Operator, database: Db, parts: PartsOf, request: Request, response: Response, name: Name) -> Dataset:
    """Takes the request's body, UTF-8 text, as the next version of a dataset. The same text again is the same version."""
    dataset, is_new = await service.add_text(database, parts.vault, caller, name, request.stream())
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"{request.url.path.rpartition('/')[0]}/{dataset.id}"
    return dataset
