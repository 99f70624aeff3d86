"""/api/v1/schedules"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from quantry_api.idempotency import RequestKey
from quantry_api.schedules import service
from quantry_api.schedules.service import TemplatePlanner
from quantry_api.state import State
from quantry_core.errors import UnknownSchedule
from quantry_core.ids import IdPrefix, is_id
from quantry_core.pages import Page
from quantry_core.schedules import (
    RunOutcome,
    Schedule,
    ScheduleChange,
    SchedulePreview,
    SchedulePreviewRequest,
    ScheduleRun,
    ScheduleSubmission,
)
from quantry_http.auth import Caller, Db
from quantry_http.pages import PageParams
from quantry_http.problems import problem_responses
from quantry_store import transactions
from quantry_store.cron import parse_cron

router = APIRouter(prefix="/api/v1/schedules", tags=["schedules"])


async def schedule_id_in_path(schedule_id: str) -> str:
    """Returns the id in the address; raises UnknownSchedule if it has not even the form of one."""
    if not is_id(schedule_id, IdPrefix.SCHEDULE):
        raise UnknownSchedule(f"there is no schedule {schedule_id!r}")
    return schedule_id


async def planner_of(state: State) -> TemplatePlanner:
    """Returns what looks at templates."""
    return TemplatePlanner(state.estimator, state.settings.import_places)


ScheduleId = Annotated[str, Depends(schedule_id_in_path)]
Planner = Annotated[TemplatePlanner, Depends(planner_of)]


@router.post("", status_code=201, responses=problem_responses(404, 409, 413))
async def create_schedule(submission: ScheduleSubmission, caller: Caller, db: Db, planner: Planner, key: RequestKey) -> Schedule:
    """Makes a schedule. Its template is looked at as if it were submitted now, and refused for the same reasons."""
    return await service.create(db, planner, caller, submission, key)


@router.post("/preview")
async def preview_schedule(request: SchedulePreviewRequest, db: Db) -> SchedulePreview:
    """Shows when a cron expression would fire. Changes nothing."""
    async with db.begin() as uow:
        now = await uow.now()
    cron = parse_cron(request.cron, request.time_zone, now=now)
    next_runs = [cron.in_zone(moment) for moment in cron.first(request.num_runs, now)]
    return SchedulePreview(cron=cron.text, time_zone=cron.time_zone, next_runs=next_runs)


@router.get("")
async def list_schedules(caller: Caller, db: Db, page: PageParams) -> Page[Schedule]:
    """Lists schedules, newest first."""
    async with db.begin() as uow:
        return await uow.schedules.list(caller.project_id, after=page.after, limit=page.limit)


@router.get("/{schedule_id}", responses=problem_responses(404))
async def show_schedule(schedule_id: ScheduleId, caller: Caller, db: Db) -> Schedule:
    """Shows a schedule with its next and last runs."""
    async with db.begin() as uow:
        return await uow.schedules.get(caller.project_id, schedule_id)


@router.patch("/{schedule_id}", responses=problem_responses(404, 409, 413))
async def change_schedule(schedule_id: ScheduleId, change: ScheduleChange, caller: Caller, db: Db, planner: Planner) -> Schedule:
    """Changes what is given, pausing and resuming included. From then on runs are submitted in the name of this key."""
    return await service.change(db, planner, caller, schedule_id, change)


@router.delete("/{schedule_id}", status_code=204, responses=problem_responses(404))
async def delete_schedule(schedule_id: ScheduleId, caller: Caller, db: Db) -> None:
    """Deletes a schedule and its list of runs. Jobs and pipelines that it started stay, and go on."""
    async with db.begin() as uow:
        await transactions.delete_schedule(uow, caller, schedule_id)


@router.post("/{schedule_id}/run", status_code=201, responses=problem_responses(404, 409))
async def run_schedule(*, schedule_id: ScheduleId, caller: Caller, db: Db, state: State, planner: Planner, key: RequestKey) -> ScheduleRun:
    """Runs a schedule now, beside its cron times, paused or not.

    Its overlap policy holds: with skip, a run that is not over is a conflict; with queue, the new one waits for it.
    """
    run, queues = await service.run_now(db, planner, caller, schedule_id, key)
    state.nudge()
    for queue in sorted(queues):
        # Not waited for: the run is safe in the database, and a broker that is away must not hold up who asked for it.
        state.waker.soon(queue)
    return run


@router.get("/{schedule_id}/runs", responses=problem_responses(404))
async def list_runs(
    schedule_id: ScheduleId,
    caller: Caller,
    db: Db,
    page: PageParams,
    outcome: Annotated[RunOutcome | None, Query(description="Only runs of this outcome.")] = None,
) -> Page[ScheduleRun]:
    """Lists what became of a schedule's due times, newest first."""
    async with db.begin() as uow:
        return await uow.schedules.runs(caller.project_id, schedule_id, after=page.after, limit=page.limit, outcome=outcome)
