"""``/api/v1/vault``: what was verified and collected, and asking for it. For administrators: it goes over every project's bytes.

What is shown of other projects are counts: no name, no id and no digest.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from quantry_core.pages import Page
from quantry_core.vault import CollectRequest, VaultRun, VaultStore, VerifyRequest
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_registry.parts import PartsOf
from quantry_registry.vault import service

router = APIRouter(prefix="/vault", tags=["vault"])

RunId = Annotated[str, Path(pattern=r"^vrn_[0-9a-f]{32}$")]


@router.post("/verify", status_code=202, responses=problem_responses(404, 409, 422))
async def verify(caller: Caller, database: Db, request: VerifyRequest) -> VaultRun:
    """Asks for bytes to be read and hashed again: all, one version's, or those that were not looked at for some time."""
    return await service.ask_verify(database, caller, request)


@router.post("/collect", status_code=202, responses=problem_responses(409, 422))
async def collect(caller: Caller, database: Db, parts: PartsOf, request: CollectRequest) -> VaultRun:
    """Asks for what nothing refers to to be removed, or, which is the default, only to be counted."""
    return await service.ask_collect(database, parts.settings, caller, request)


@router.get("/store")
async def get_store(parts: PartsOf) -> VaultStore:
    """Returns what the vault's bucket was found to do when this registry started."""
    found = parts.vault.protection
    return VaultStore(keeps_versions=found.versioning, locks_objects=found.object_lock, retention_s=parts.vault.retention_s)


@router.get("/runs")
async def list_runs(caller: Caller, database: Db, page: PageParams) -> Page[VaultRun]:
    """Returns a page of runs, newest first."""
    async with database.begin() as uow:
        runs = await uow.vault_runs.list(caller.project_id, after=page.after, limit=page.limit)
    return runs.model_copy(update={"data": [_shown(run) for run in runs.data]})


@router.get("/runs/{run_id}", responses=problem_responses(404))
async def get_run(caller: Caller, database: Db, run_id: RunId) -> VaultRun:
    """Returns a run: how far it is, or what it found."""
    async with database.begin() as uow:
        return _shown(await uow.vault_runs.get(caller.project_id, run_id))


def _shown(run: VaultRun) -> VaultRun:
    """Returns a run without the digest that it has got to, which is for the registries alone."""
    return run.model_copy(update={"report": {name: value for name, value in run.report.items() if name != "cursor"}})
