"""``/mlflow/api/2.0/mlflow/registered-models``: models with tags and aliases, as MLflow's client asks for them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from quantry_core.model_notes import ModelNotesChange
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.mlflow import service
from quantry_registry.mlflow.schemas import (
    CreateModel,
    DeleteAlias,
    DeleteModel,
    LatestVersions,
    ModelTag,
    ModelTagKey,
    Nothing,
    OneModel,
    OneVersion,
    RenameModel,
    ServerInfo,
    SetAlias,
    SomeModels,
    SomeVersions,
    Tag,
    UpdateModel,
)
from quantry_store.transactions.models import delete_model

router = APIRouter(prefix="/api/2.0/mlflow/registered-models", tags=["mlflow"])
server_router = APIRouter(prefix="/api/3.0/mlflow", tags=["mlflow"])
_NOT_FOUND = problem_responses(404)
_CHANGE = problem_responses(404, 409)

NameQuery = Annotated[str, Query(max_length=1024, description="The model's name.")]
FilterQuery = Annotated[str, Query(description="name LIKE 'bard%' AND tags.`stage` = 'test'; conditions are joined by AND.")]
OrderQuery = Annotated[list[str], Query(description="name ASC and the like; may be given again.", max_length=8)]
StagesQuery = Annotated[list[str], Query(description="None, Archived and the like; may be given again.", max_length=16)]
TokenQuery = Annotated[str | None, Query(max_length=2048, description="The next_page_token of the page before.")]
LimitQuery = Annotated[int, Query(ge=1, description=f"Items of one page; {service.MAX_PAGE} at most are given.")]


@server_router.get("/server-info")
async def get_mlflow_server_info() -> ServerInfo:
    """Returns what this door can do of MLflow's newer features."""
    return ServerInfo()


@router.post("/create", responses=problem_responses(404, 409))
async def create_registered_model(caller: Caller, database: Db, asked: CreateModel) -> OneModel:
    """Makes a model without versions."""
    async with database.begin() as uow:
        return OneModel(registered_model=await service.add_model(uow, asked, caller))


@router.get("/get", responses=_NOT_FOUND)
async def get_registered_model(caller: Caller, database: Db, name: NameQuery) -> OneModel:
    """Returns a model."""
    async with database.begin() as uow:
        return OneModel(registered_model=await service.model_record(uow, caller.project_id, name))


@router.post("/rename", responses=_NOT_FOUND)
async def rename_registered_model(caller: Caller, database: Db, asked: RenameModel) -> OneModel:
    """Refuses: a model keeps its name, and the answer says why and what to do instead."""
    async with database.begin() as uow:
        await uow.models.get(caller.project_id, asked.name)
    raise service.rename_refused(asked.name, asked.new_name)


@router.patch("/update", responses=_NOT_FOUND)
async def update_registered_model(caller: Caller, database: Db, asked: UpdateModel) -> OneModel:
    """Writes a model's notes."""
    async with database.begin() as uow:
        await service.change_model(uow, asked.name, ModelNotesChange(notes=asked.description or ""), caller)
        return OneModel(registered_model=await service.model_record(uow, caller.project_id, asked.name))


@router.delete("/delete", responses=_CHANGE)
async def delete_registered_model(caller: Caller, database: Db, asked: DeleteModel) -> Nothing:
    """Deletes a model that never had a version."""
    async with database.begin() as uow:
        await delete_model(uow, asked.name, who=caller)
    return Nothing()


@router.get("/search")
async def search_registered_models(
    *,
    caller: Caller,
    database: Db,
    filter: FilterQuery = "",
    order_by: OrderQuery = [],  # noqa: B006 - FastAPI copies it
    page_token: TokenQuery = None,
    max_results: LimitQuery = 100,
) -> SomeModels:
    """Returns a page of the models that fit, by name where no order is asked for."""
    async with database.begin() as uow:
        return await service.search_models(uow, caller.project_id, filter, order_by, token=page_token, limit=max_results)


@router.post("/get-latest-versions", responses=_NOT_FOUND)
async def find_latest_model_versions(caller: Caller, database: Db, asked: LatestVersions) -> SomeVersions:
    """Returns the latest version of each stage."""
    async with database.begin() as uow:
        return await service.latest_versions(uow, caller.project_id, asked.name, asked.stages)


@router.get("/get-latest-versions", responses=_NOT_FOUND)
async def get_latest_model_versions(
    caller: Caller,
    database: Db,
    name: NameQuery,
    stages: StagesQuery = [],  # noqa: B006 - FastAPI copies it
) -> SomeVersions:
    """Returns the latest version of each stage."""
    async with database.begin() as uow:
        return await service.latest_versions(uow, caller.project_id, name, stages)


@router.post("/set-tag", responses=_NOT_FOUND)
async def set_registered_model_tag(caller: Caller, database: Db, asked: ModelTag) -> Nothing:
    """Sets a tag of a model, whatever it was before."""
    tags = service.checked_tags([Tag(key=asked.key, value=asked.value)])
    async with database.begin() as uow:
        await service.change_model(uow, asked.name, ModelNotesChange(set_tags=dict(tags)), caller)
    return Nothing()


@router.delete("/delete-tag", responses=_NOT_FOUND)
async def delete_registered_model_tag(caller: Caller, database: Db, asked: ModelTagKey) -> Nothing:
    """Takes a tag of a model away; nothing where it has none of that key."""
    async with database.begin() as uow:
        await service.change_model(uow, asked.name, ModelNotesChange(remove_tags=[asked.key]), caller)
    return Nothing()


@router.post("/alias", responses=_CHANGE)
async def set_registered_model_alias(caller: Caller, database: Db, asked: SetAlias) -> Nothing:
    """Points an alias at a ready version."""
    async with database.begin() as uow:
        version = await service.find_version(uow, caller.project_id, asked.name, asked.version)
        await uow.aliases.move(caller.project_id, asked.name, asked.alias, version.id, caller)
    return Nothing()


@router.delete("/alias", responses=_NOT_FOUND)
async def delete_registered_model_alias(caller: Caller, database: Db, asked: DeleteAlias) -> Nothing:
    """Deletes an alias; where it pointed before stays known."""
    async with database.begin() as uow:
        await uow.aliases.delete(caller.project_id, asked.name, asked.alias, caller)
    return Nothing()


@router.get("/alias", responses=_NOT_FOUND)
async def get_model_version_by_alias(
    caller: Caller, database: Db, name: NameQuery, alias: Annotated[str, Query(max_length=1024)]
) -> OneVersion:
    """Returns the version that an alias points at."""
    async with database.begin() as uow:
        target = await uow.aliases.get(caller.project_id, name, alias)
        version = await uow.versions.get(caller.project_id, target.version_id)
        return OneVersion(model_version=await service.version_record(uow, version))
