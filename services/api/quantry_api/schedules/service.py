"""How schedules are made, changed and run: their templates are looked at first, outside of any transaction."""

from __future__ import annotations

from typing import Any, assert_never

from pydantic import ValidationError

from quantry_api.estimates.estimator import Estimator
from quantry_api.idempotency import IdempotencyKey
from quantry_api.jobs.service import check_spec
from quantry_api.jobs.sources import ImportPlaces
from quantry_api.pipelines.service import place_steps
from quantry_core.errors import QuantryError
from quantry_core.jobs import Queue
from quantry_core.keys import Identity
from quantry_core.schedules import JobTemplate, PipelineTemplate, Schedule, ScheduleChange, ScheduleRun, ScheduleSubmission, Template
from quantry_store import transactions
from quantry_store.database import Database
from quantry_store.transactions import ONLY_JOB, Placement, Prepared, read_template
from quantry_store.unit_of_work import UnitOfWork


async def create(
    database: Database, planner: TemplatePlanner, caller: Identity, submission: ScheduleSubmission, key: IdempotencyKey
) -> Schedule:
    """Returns the new schedule, or the one that the same request made before; raises what ``transactions.create_schedule``
    does, and what is wrong with the template or the key."""

    async def load(uow: UnitOfWork, schedule_id: str) -> Schedule:
        return await uow.schedules.get(caller.project_id, schedule_id)

    earlier = await key.earlier(database, caller.project_id, load)
    if earlier is not None:
        return earlier
    prepared = await planner.prepare(caller.project_id, submission.template)
    async with database.begin() as uow:
        return await key.once(uow, caller.project_id, load, lambda: transactions.create_schedule(uow, caller, submission, prepared))


async def change(database: Database, planner: TemplatePlanner, caller: Identity, schedule_id: str, change: ScheduleChange) -> Schedule:
    """Returns the schedule as changed; raises what ``transactions.change_schedule`` does, and what is wrong with the template."""
    prepared: Prepared | None = None
    if change.template is not None:
        prepared = await planner.prepare(caller.project_id, change.template)
    elif transactions.is_checked_anew(change):
        prepared = await planner.prepare_stored(caller.project_id, await _template(database, caller, schedule_id))
    async with database.begin() as uow:
        return await transactions.change_schedule(uow, caller, schedule_id, change, prepared)


async def run_now(
    database: Database, planner: TemplatePlanner, caller: Identity, schedule_id: str, key: IdempotencyKey
) -> tuple[ScheduleRun, frozenset[Queue]]:
    """Returns the run, or the one that the same request made before, and the queues that have work from it.

    Raises what ``transactions.run_schedule_now`` does, and what is wrong with the template or the key.
    """
    queues: set[Queue] = set()

    async def load(uow: UnitOfWork, run_id: str) -> ScheduleRun:
        return await uow.schedules.get_run(caller.project_id, run_id)

    earlier = await key.earlier(database, caller.project_id, load)
    if earlier is not None:
        return earlier, frozenset()
    prepared = await planner.prepare_stored(caller.project_id, await _template(database, caller, schedule_id))
    async with database.begin() as uow:

        async def make() -> ScheduleRun:
            run, submitted = await transactions.run_schedule_now(uow, caller, schedule_id, prepared)
            queues.update(frozenset() if submitted is None else submitted.queues)
            return run

        return await key.once(uow, caller.project_id, load, make), frozenset(queues)


async def _template(database: Database, caller: Identity, schedule_id: str) -> dict[str, Any]:
    async with database.begin() as uow:
        return (await uow.schedules.load(caller.project_id, schedule_id)).template


class TemplatePlanner:
    """Prepares templates for the transactions that submit them. Reads the database, folders and the object store."""

    def __init__(self, estimator: Estimator, places: ImportPlaces) -> None:
        self._estimator = estimator
        self._places = places

    async def prepare(self, project_id: str, template: Template) -> Prepared:
        """Returns the template with its placements; raises what is wrong with it, and Unavailable."""
        placements = await self._place(project_id, template)
        return Prepared(template.model_dump(mode="json"), placements)

    async def prepare_stored(self, project_id: str, document: dict[str, Any]) -> Prepared:
        """Returns a template of a schedule, as it is stored, with its placements or with why it cannot be submitted.

        Raises Unavailable.
        """
        try:
            return Prepared(document, await self._place(project_id, read_template(document)))
        except QuantryError as error:
            if not transactions.is_final(error):
                raise
            return Prepared(document, {}, refusal=error.detail)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            return Prepared(document, {}, refusal=f"this release cannot read the template ({place}: {problem['msg']})")

    async def _place(self, project_id: str, template: Template) -> dict[str, Placement]:
        match template:
            case JobTemplate(submission=submission):
                await check_spec(submission.spec, self._places)
                return {ONLY_JOB: (await self._estimator.preflight(project_id, submission)).placement}
            case PipelineTemplate(submission=pipeline):
                return await place_steps(self._estimator, self._places, project_id, pipeline)
            case _:
                assert_never(template)
