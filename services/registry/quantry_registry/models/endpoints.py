"""``/api/v1/models``: models and their aliases."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from quantry_core.aliases import Alias
from quantry_core.model_notes import ModelNotes, ModelNotesChange
from quantry_core.model_views import ListedModel, ModelFigures
from quantry_core.names import Name
from quantry_core.pages import Page
from quantry_core.vault_usage import VaultUsage
from quantry_core.versions import Model
from quantry_http.auth import Caller, Db
from quantry_http.moments import Moment
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_registry.models.schemas import AliasHistory, AliasList, AliasMove

router = APIRouter(prefix="/models", tags=["models"])
usage_router = APIRouter(prefix="/vault", tags=["models"])
_NOT_FOUND = problem_responses(404)

At = Annotated[Moment | None, Query(description="RFC 3339, with its offset from UTC: where it pointed then.")]
NamePart = Annotated[str | None, Query(min_length=1, max_length=200, description="Part of the name.")]


@router.get("")
async def list_models(caller: Caller, database: Db, page: PageParams, text: NamePart = None) -> Page[ListedModel]:
    """Returns a page of models, newest first."""
    async with database.begin() as uow:
        return await uow.models.list(caller.project_id, text=text, after=page.after, limit=page.limit)


@router.get("/{name}", responses=_NOT_FOUND)
async def get_model(caller: Caller, database: Db, name: Name) -> Model:
    """Returns a model."""
    async with database.begin() as uow:
        return await uow.models.get(caller.project_id, name)


@router.get("/{name}/figures", responses=_NOT_FOUND)
async def get_figures(caller: Caller, database: Db, name: Name) -> ModelFigures:
    """Returns the size of each version of a model beside what was measured of its quality, of the newest 2,000."""
    async with database.begin() as uow:
        return await uow.figures.of_model(caller.project_id, name)


@router.get("/{name}/notes", responses=_NOT_FOUND)
async def get_model_notes(caller: Caller, database: Db, name: Name) -> ModelNotes:
    """Returns tags and notes of a model."""
    async with database.begin() as uow:
        return await uow.model_notes.get(await uow.models.get(caller.project_id, name))


@router.patch("/{name}/notes", responses=_NOT_FOUND)
async def change_model_notes(caller: Caller, database: Db, name: Name, change: ModelNotesChange) -> ModelNotes:
    """Changes tags or notes of a model; what is left out stays."""
    async with database.begin() as uow:
        return await uow.model_notes.change(await uow.models.get(caller.project_id, name), change, caller)


@router.get("/{name}/aliases", responses=_NOT_FOUND)
async def list_aliases(caller: Caller, database: Db, name: Name) -> AliasList:
    """Returns every alias of a model."""
    async with database.begin() as uow:
        return AliasList(data=await uow.aliases.list(caller.project_id, name))


@router.get("/{name}/aliases/{alias}", responses=_NOT_FOUND)
async def get_alias(caller: Caller, database: Db, name: Name, alias: Name, at: At = None) -> Alias:
    """Returns where an alias points, or where it pointed ``at`` a moment and since when; the version may be deleted by now."""
    async with database.begin() as uow:
        if at is not None:
            return await uow.aliases.at(caller.project_id, name, alias, at)
        return await uow.aliases.get(caller.project_id, name, alias)


@router.put("/{name}/aliases/{alias}", responses=problem_responses(404, 409))
async def move_alias(caller: Caller, database: Db, name: Name, alias: Name, move: AliasMove) -> Alias:
    """Points an alias at a ready version of the model; makes the alias if there is none."""
    async with database.begin() as uow:
        return await uow.aliases.move(caller.project_id, name, alias, move.version_id, caller)


@router.delete("/{name}/aliases/{alias}", status_code=204, responses=_NOT_FOUND)
async def delete_alias(caller: Caller, database: Db, name: Name, alias: Name) -> None:
    """Deletes an alias, which then protects its version no more. Where it pointed before is still answered."""
    async with database.begin() as uow:
        await uow.aliases.delete(caller.project_id, name, alias, caller)


@router.get("/{name}/aliases/{alias}/history", responses=_NOT_FOUND)
async def get_alias_history(caller: Caller, database: Db, name: Name, alias: Name) -> AliasHistory:
    """Returns every move of an alias and its deletions, newest first."""
    async with database.begin() as uow:
        return AliasHistory(data=await uow.aliases.history(caller.project_id, name, alias))


@usage_router.get("/usage")
async def get_usage(caller: Caller, database: Db) -> VaultUsage:
    """Returns what the project's versions take in the vault, and what is saved because equal files are stored once."""
    async with database.begin() as uow:
        return await uow.version_search.usage(caller.project_id)
