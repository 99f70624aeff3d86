"""``/mlflow/api/2.0/mlflow/model-versions``: versions, as MLflow's client asks for them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.mlflow import service
from quantry_registry.mlflow.endpoints import FilterQuery, LimitQuery, NameQuery, OrderQuery, TokenQuery
from quantry_registry.mlflow.schemas import (
    CreateVersion,
    DeleteVersion,
    DownloadUri,
    MoveStage,
    Nothing,
    OneVersion,
    SomeVersions,
    Tag,
    UpdateVersion,
    VersionTag,
    VersionTagKey,
    artifact_uri,
)
from quantry_store.transactions.deletion import delete_version

router = APIRouter(prefix="/api/2.0/mlflow/model-versions", tags=["mlflow"])
_NOT_FOUND = problem_responses(404)
_CHANGE = problem_responses(404, 409)

NumberQuery = Annotated[str, Query(max_length=64, description="The version's number, or the id of the job that imports it.")]


@router.post("/create", responses=_CHANGE)
async def create_model_version(caller: Caller, database: Db, asked: CreateVersion) -> OneVersion:
    """Begins the import of a version from the Hugging Face hub or an upload. It goes by the job's id until it has a number."""
    async with database.begin() as uow:
        return OneVersion(model_version=await service.begin_import(uow, asked, caller))


@router.get("/get", responses=_NOT_FOUND)
async def get_model_version(caller: Caller, database: Db, name: NameQuery, version: NumberQuery) -> OneVersion:
    """Returns a version, or how the import goes that makes it."""
    async with database.begin() as uow:
        return OneVersion(model_version=await service.told_version(uow, caller.project_id, name, version))


@router.patch("/update", responses=_NOT_FOUND)
async def update_model_version(caller: Caller, database: Db, asked: UpdateVersion) -> OneVersion:
    """Writes a version's notes. The version itself never changes."""
    async with database.begin() as uow:
        version = await service.find_version(uow, caller.project_id, asked.name, asked.version)
        return OneVersion(model_version=await service.describe_version(uow, version, asked.description, caller))


@router.post("/transition-stage", responses=_CHANGE)
async def transition_model_version_stage(caller: Caller, database: Db, asked: MoveStage) -> OneVersion:
    """Puts a version aside (Archived) or takes it back (None). Staging and Production are aliases here."""
    async with database.begin() as uow:
        return OneVersion(model_version=await service.move_stage(uow, asked, caller))


@router.delete("/delete", responses=_CHANGE)
async def delete_model_version(caller: Caller, database: Db, asked: DeleteVersion) -> Nothing:
    """Deletes a version that nothing depends on; until the collection removes it, it can be restored."""
    async with database.begin() as uow:
        version = await service.find_version(uow, caller.project_id, asked.name, asked.version)
        await delete_version(uow, version.id, who=caller)
    return Nothing()


@router.get("/search")
async def search_model_versions(
    *,
    caller: Caller,
    database: Db,
    filter: FilterQuery = "",
    order_by: OrderQuery = [],  # noqa: B006 - FastAPI copies it
    page_token: TokenQuery = None,
    max_results: LimitQuery = 200,
) -> SomeVersions:
    """Returns a page of the versions that fit, the last changed first where no order is asked for."""
    async with database.begin() as uow:
        return await service.search_versions(uow, caller.project_id, filter, order_by, token=page_token, limit=max_results)


@router.get("/get-download-uri", responses=_NOT_FOUND)
async def get_model_version_download_uri(caller: Caller, database: Db, name: NameQuery, version: NumberQuery) -> DownloadUri:
    """Returns where the files of a version are: an address of MLflow's artifact API, below this very server."""
    async with database.begin() as uow:
        return DownloadUri(artifact_uri=artifact_uri(await service.find_version(uow, caller.project_id, name, version)))


@router.post("/set-tag", responses=_NOT_FOUND)
async def set_model_version_tag(caller: Caller, database: Db, asked: VersionTag) -> Nothing:
    """Sets a tag of a version, whatever it was before."""
    tags = service.checked_tags([Tag(key=asked.key, value=asked.value)])
    async with database.begin() as uow:
        version = await service.find_version(uow, caller.project_id, asked.name, asked.version)
        await uow.version_notes.change_texts(version, set_tags=tags, who=caller)
    return Nothing()


@router.delete("/delete-tag", responses=_NOT_FOUND)
async def delete_model_version_tag(caller: Caller, database: Db, asked: VersionTagKey) -> Nothing:
    """Takes a tag of a version away; nothing where it has none of that key."""
    async with database.begin() as uow:
        version = await service.find_version(uow, caller.project_id, asked.name, asked.version)
        await uow.version_notes.change_texts(version, set_tags={}, remove_tags=[asked.key], who=caller)
    return Nothing()
