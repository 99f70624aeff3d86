"""/api/v1/retention"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from quantry_api.state import State
from quantry_core.pages import Page
from quantry_core.retention import RetentionPolicy, RetentionRequest, RetentionRun, policy_of
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_store.transactions.retention import ask_retention

router = APIRouter(prefix="/api/v1/retention", tags=["retention"])

RunId = Annotated[str, Path(max_length=80, description="ret_...")]


@router.get("")
async def get_policy(_caller: Caller, state: State) -> RetentionPolicy:
    """Returns what is kept for how long, and what is kept for ever."""
    return policy_of(state.retention.keep_days, state.retention.retention_interval_s)


@router.get("/runs")
async def list_retention_runs(_caller: Caller, db: Db, page: PageParams) -> Page[RetentionRun]:
    """Lists what runs removed from the whole installation, newest first."""
    async with db.begin() as uow:
        return await uow.retention.runs.list(after=page.after, limit=page.limit)


@router.get("/runs/{run_id}", responses=problem_responses(404))
async def get_run(_caller: Caller, db: Db, run_id: RunId) -> RetentionRun:
    """Returns how far a run is, or what it removed."""
    async with db.begin() as uow:
        return await uow.retention.runs.get(run_id)


@router.post("/run", status_code=202)
async def ask_run(caller: Caller, state: State, db: Db, request: RetentionRequest) -> RetentionRun:
    """Asks for a run now: one that removes what is over, or one that only counts it. It goes on after the answer."""
    async with db.begin() as uow:
        run = await ask_retention(uow, caller, dry_run=request.dry_run)
    state.nudge_retention()
    return run
