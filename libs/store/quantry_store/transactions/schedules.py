"""Schedules: made, changed, deleted, run by hand, and fired when they are due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from quantry_core.errors import Conflict, InvalidInput, QuantryError
from quantry_core.firing import MAX_HELD, DueTimes, Step, decide
from quantry_core.jobs import Queue
from quantry_core.keys import Identity
from quantry_core.schedules import OverlapPolicy, RunOutcome, Schedule, ScheduleChange, ScheduleRun, ScheduleSubmission
from quantry_store.cron import due_times, parse_cron
from quantry_store.repositories.schedules import ScheduleRecord
from quantry_store.transactions.schedule_templates import Prepared, Submitted, check_frequency, is_final, take_over, try_template
from quantry_store.transactions.webhook_events import tell_schedule_failed
from quantry_store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class Firing:
    """What became of the due times of one schedule, and the queues whose workers have something to do now."""

    runs: list[ScheduleRun]
    queues: frozenset[Queue]


async def create_schedule(uow: UnitOfWork, identity: Identity, submission: ScheduleSubmission, prepared: Prepared) -> Schedule:
    """Returns the new schedule.

    Raises BadCron, InvalidInput for an unknown time zone, Conflict if there is one of that name, and what a submission of
    the template raises.
    """
    now = await uow.now()
    cron = parse_cron(submission.cron, submission.time_zone, now=now)
    check_frequency(cron, submission.overlap, prepared, now)
    await try_template(uow, identity, prepared)
    record = await uow.schedules.add(identity, submission.model_copy(update={"cron": cron.text}), cron.next_after(now))
    await uow.audit.record(identity, "schedule.create", "schedule", record.id, submission.model_dump(mode="json"))
    return await uow.schedules.get(identity.project_id, record.id)


def is_checked_anew(change: ScheduleChange) -> bool:
    """Tells whether a change is one after which a template's duration must be compared with the schedule's frequency."""
    return any(value is not None for value in (change.cron, change.time_zone, change.template, change.overlap))


async def change_schedule(
    uow: UnitOfWork, identity: Identity, schedule_id: str, change: ScheduleChange, prepared: Prepared | None
) -> Schedule:
    """Returns the schedule as changed. From now on its runs are submitted in the name of ``identity``.

    ``prepared`` is the template it will have, and must be given where ``is_checked_anew``. Another cron or time zone counts
    from now. Raises as ``create_schedule``, UnknownSchedule, and Conflict if somebody changed the template meanwhile.
    """
    schedule = await uow.schedules.lock(identity.project_id, schedule_id)
    given = change.model_dump(mode="json", exclude_none=True)
    values: dict[str, Any] = {name: getattr(change, name) for name in given if name != "template"}
    if is_checked_anew(change):
        if prepared is None:
            raise ValueError("this change needs the template to have been looked at")
        values |= await _checked(uow, identity, schedule, change, prepared)
    if values.get("overlap", OverlapPolicy.QUEUE) is not OverlapPolicy.QUEUE:
        await uow.schedules.skip_held(schedule.id, "the overlap policy was changed while it waited")
    values |= {"created_by_key_id": identity.key_id, "created_by_role": identity.role}
    await uow.schedules.change(schedule.id, **values)
    if change.is_paused is not None and change.is_paused is not schedule.is_paused:
        await uow.audit.record(identity, "schedule.pause" if change.is_paused else "schedule.resume", "schedule", schedule.id)
    if given.keys() - {"is_paused"}:
        await uow.audit.record(identity, "schedule.change", "schedule", schedule.id, given)
    return await uow.schedules.get(identity.project_id, schedule.id)


async def _checked(
    uow: UnitOfWork, identity: Identity, schedule: ScheduleRecord, change: ScheduleChange, prepared: Prepared
) -> dict[str, Any]:
    """Returns the columns that a change of cron, time zone, template or overlap brings, after checking that they go together."""
    if change.template is None and prepared.template != schedule.template:
        raise Conflict("the schedule's template was changed at the same moment; look at it again")
    now = await uow.now()
    cron = parse_cron(change.cron or schedule.cron.text, change.time_zone or schedule.cron.time_zone, now=now)
    check_frequency(cron, change.overlap or schedule.overlap, prepared, now)
    values: dict[str, Any] = {"cron": cron.text}
    if change.template is not None:
        await try_template(uow, identity, prepared)
        values["template"] = prepared.template
    if cron != schedule.cron or schedule.next_run_at is None:
        values["next_run_at"] = cron.next_after(now)
    return values


async def delete_schedule(uow: UnitOfWork, identity: Identity, schedule_id: str) -> None:
    """Deletes a schedule with its list of runs; jobs and pipelines that it started go on. Raises UnknownSchedule."""
    schedule = await uow.schedules.lock(identity.project_id, schedule_id)
    await uow.schedules.delete(schedule.id)
    await uow.audit.record(identity, "schedule.delete", "schedule", schedule.id, {"name": schedule.name})


async def run_schedule_now(
    uow: UnitOfWork, identity: Identity, schedule_id: str, prepared: Prepared
) -> tuple[ScheduleRun, Submitted | None]:
    """Returns a run beside the cron times, paused or not, and what was submitted: None if the run waits for the one before.

    Raises Conflict where the overlap policy is skip and a run is not over, or where too many wait; InvalidInput for a template
    that cannot be submitted any more; and what a submission raises.
    """
    schedule = await uow.schedules.lock(identity.project_id, schedule_id)
    if prepared.template != schedule.template:
        raise Conflict("the schedule's template was changed at the same moment; try again")
    if prepared.refusal is not None:
        raise InvalidInput(prepared.refusal)
    standing = await uow.schedules.standing(schedule.id)
    now = await uow.now()
    submitted: Submitted | None = None
    if standing.busy_with is not None and schedule.overlap is OverlapPolicy.SKIP:
        raise Conflict(f"{standing.busy_with} of this schedule is not over, and its overlap policy is skip; cancel it or wait for it")
    if schedule.overlap is OverlapPolicy.QUEUE and (standing.busy_with is not None or standing.held):
        if len(standing.held) >= MAX_HELD:
            raise Conflict(f"{MAX_HELD} runs of this schedule wait already")
        message = f"waits for {standing.busy_with}" if standing.busy_with is not None else "waits for the runs before it"
        run = await uow.schedules.add_run(schedule, now, RunOutcome.HELD, is_manual=True, message=message)
    else:
        submitted = await take_over(uow, identity, schedule.id, schedule.overlap, prepared)
        run = await uow.schedules.add_run(
            schedule, now, RunOutcome.FIRED, is_manual=True, job_id=submitted.job_id, pipeline_id=submitted.pipeline_id
        )
    await uow.audit.record(identity, "schedule.run", "schedule", schedule.id, {"run_id": run.id})
    return run, submitted


async def fire_due(uow: UnitOfWork, schedule_id: str, prepared: Prepared, *, grace: timedelta) -> Firing | None:
    """Returns what became of all that is due and held of one schedule; None if there is nothing to do, or somebody else is at it.

    The runs, what they submit, and the next due time are written in this one transaction, so that a crash leaves either the
    due time or its run, never both. A due time older than ``grace`` was missed. What cannot be submitted is written
    down as refused, and the schedule goes on. Raises Unavailable where it should be tried again.
    """
    schedule = await uow.schedules.claim(schedule_id)
    if schedule is None or schedule.template != prepared.template:
        return None
    now = await uow.now()
    is_due = schedule.next_run_at is not None and schedule.next_run_at <= now
    try:
        cron = parse_cron(schedule.cron.text, schedule.cron.time_zone, now=now)
    except InvalidInput as error:
        return await _give_up(uow, schedule, error) if is_due else None
    due = due_times(cron, schedule.next_run_at, now, grace) if is_due and schedule.next_run_at is not None else DueTimes()
    plan = decide(schedule.overlap, schedule.missed, await uow.schedules.standing(schedule.id), due)
    queues: set[Queue] = set()
    runs = [await _take(uow, schedule, step, prepared, queues) for step in plan.steps]
    if plan.through is not None:
        await uow.schedules.change(schedule.id, next_run_at=cron.next_after(plan.through))
    return Firing(runs, frozenset(queues)) if runs else None


async def _take(uow: UnitOfWork, schedule: ScheduleRecord, step: Step, prepared: Prepared, queues: set[Queue]) -> ScheduleRun:
    """Returns the run that a step leads to; adds the queues that have work from it."""
    outcome, message, submitted = step.outcome, step.message, None
    if outcome is RunOutcome.FIRED:
        made = await _submit(uow, schedule, prepared)
        if isinstance(made, Submitted):
            submitted = made
            queues |= made.queues
        else:
            outcome, message = RunOutcome.REFUSED, made
    job_id = None if submitted is None else submitted.job_id
    pipeline_id = None if submitted is None else submitted.pipeline_id
    if step.held_id is not None:
        run = await uow.schedules.settle_held(step.held_id, outcome, job_id=job_id, pipeline_id=pipeline_id, message=message)
    else:
        run = await uow.schedules.add_run(schedule, step.due_at, outcome, job_id=job_id, pipeline_id=pipeline_id, message=message)
    if outcome is RunOutcome.REFUSED:
        await tell_schedule_failed(uow, schedule, run)
    return run


async def _submit(uow: UnitOfWork, schedule: ScheduleRecord, prepared: Prepared) -> Submitted | str:
    """Returns what was submitted, or the sentence that says why nothing can be."""
    if prepared.refusal is not None:
        return prepared.refusal
    try:
        return await take_over(uow, schedule.identity, schedule.id, schedule.overlap, prepared)
    except QuantryError as error:
        if not is_final(error):
            raise
        return error.detail


async def _give_up(uow: UnitOfWork, schedule: ScheduleRecord, error: InvalidInput) -> Firing:
    """Stops a schedule whose cron or time zone this machine cannot read any more, until somebody changes it."""
    due_at = schedule.next_run_at or await uow.now()
    run = await uow.schedules.add_run(schedule, due_at, RunOutcome.REFUSED, message=error.detail)
    await uow.schedules.change(schedule.id, next_run_at=None)
    await tell_schedule_failed(uow, schedule, run)
    return Firing([run], frozenset())
