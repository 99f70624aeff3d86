"""Schedules in the database: made, changed, fired under each policy, and neither lost nor doubled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from factories.schedules import GRACE, job_template, pipeline_template, prepared, wind_up
from factories.store import Platform, import_spec, quantize_spec
from quantry_core.errors import Conflict, InvalidInput, UnknownSchedule
from quantry_core.firing import MAX_HELD, MAX_RUNS_PER_PASS
from quantry_core.jobs import JobStatus
from quantry_core.schedules import MissedPolicy, OverlapPolicy, RunOutcome
from quantry_store.transactions import delete_schedule, fire_due, run_schedule_now

HOUR = timedelta(hours=1)


async def test_a_new_schedule_tells_its_next_runs(platform: Platform) -> None:
    clockwork = await wind_up(platform, cron="30 2 * * *", time_zone="Europe/Berlin")
    shown = await clockwork.show()
    assert shown == clockwork.schedule
    assert shown.next_run_at is not None and shown.next_run_at > datetime.now(UTC) - timedelta(minutes=1)
    assert len(shown.next_runs) == 5
    assert shown.next_runs[0] == shown.next_run_at
    # Of five nights one may be that of the change in spring, when this time does not exist.
    assert [moment.strftime("%H:%M") for moment in shown.next_runs].count("02:30") >= 4
    assert shown.last_run is None
    assert (await platform.actions())[-1] == "schedule.create"
    assert await clockwork.fire() is None, "it is not due yet"


async def test_a_due_run_is_submitted_once(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    due_at = await clockwork.due_since(seconds=5)
    run = await clockwork.fired()
    assert (run.outcome, run.due_at, run.is_manual) == (RunOutcome.FIRED, due_at, False)
    job = await platform.job(run.job_id or "")
    assert (job.schedule_id, job.status) == (clockwork.schedule.id, JobStatus.QUEUED)
    shown = await clockwork.show()
    assert shown.last_run == run
    assert shown.next_run_at is not None and shown.next_run_at > due_at
    assert await clockwork.fire() is None
    assert await clockwork.num_jobs() == 1
    assert (await platform.actions())[-1] == "job.submit"


async def test_a_pipeline_is_one_run(platform: Platform) -> None:
    clockwork = await wind_up(platform, pipeline_template())
    await clockwork.due_since(seconds=5)
    run = await clockwork.fired()
    assert run.job_id is None
    async with platform.database.begin() as uow:
        pipeline = await uow.pipelines.get(platform.project_id, run.pipeline_id or "")
    assert pipeline.schedule_id == clockwork.schedule.id
    assert [job.schedule_id for job in pipeline.jobs] == [clockwork.schedule.id] * 2
    await clockwork.due_since(seconds=4)
    later = await clockwork.fired()
    assert (later.outcome, later.message) == (RunOutcome.SKIPPED, f"{pipeline.id} was not over")


async def test_skip_names_the_job_that_is_not_over(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    await clockwork.due_since(seconds=5)
    first = await clockwork.fired()
    await clockwork.due_since(seconds=4)
    second = await clockwork.fired()
    assert (second.outcome, second.job_id, second.message) == (RunOutcome.SKIPPED, None, f"{first.job_id} was not over")
    await clockwork.end_job(first.job_id)
    await clockwork.due_since(seconds=3)
    assert (await clockwork.fired()).outcome is RunOutcome.FIRED


async def test_queued_runs_come_one_after_the_other(platform: Platform) -> None:
    clockwork = await wind_up(platform, overlap=OverlapPolicy.QUEUE)
    runs = []
    for seconds in (9, 8, 7):
        await clockwork.due_since(seconds=seconds)
        runs.append(await clockwork.fired())
    assert [run.outcome for run in runs] == [RunOutcome.FIRED, RunOutcome.HELD, RunOutcome.HELD]
    assert await clockwork.num_jobs() == 1
    assert await clockwork.fire() is None, "the first is not over"
    previous = runs[0]
    for held in runs[1:]:
        # Failed or not: the next one does not depend on it.
        await platform.sql("update jobs set status = 'failed', reason = 'internal', finished_at = now() where id = %s", previous.job_id)
        async with platform.database.begin() as uow:
            assert [schedule.id for schedule in await uow.schedules.due()] == [clockwork.schedule.id]
        previous = await clockwork.fired()
        assert (previous.id, previous.outcome, previous.due_at) == (held.id, RunOutcome.FIRED, held.due_at)
        assert previous.message is None
    assert await clockwork.num_jobs() == 3
    async with platform.database.begin() as uow:
        assert await uow.schedules.due() == []


async def test_only_so_many_runs_wait(platform: Platform) -> None:
    clockwork = await wind_up(platform, overlap=OverlapPolicy.QUEUE)
    await clockwork.due_since(seconds=5)
    await clockwork.fired()
    await platform.sql(
        "insert into schedule_runs (id, schedule_id, project_id, due_at, outcome, is_manual) "
        "select 'run_' || n, %s, %s, now() - interval '1 hour' * n, 'held', false from generate_series(1, %s) n",
        clockwork.schedule.id,
        platform.project_id,
        MAX_HELD,
    )
    await clockwork.due_since(seconds=4)
    run = await clockwork.fired()
    assert run.outcome is RunOutcome.SKIPPED
    assert run.message is not None and "100 runs wait for it already" in run.message
    with pytest.raises(Conflict, match="100 runs of this schedule wait already"):
        await clockwork.run_now()


async def test_cancel_previous_ends_the_run_before(platform: Platform) -> None:
    clockwork = await wind_up(platform, pipeline_template(), overlap=OverlapPolicy.CANCEL_PREVIOUS)
    await clockwork.due_since(seconds=5)
    first = await clockwork.fired()
    running = await platform.claim()
    await clockwork.due_since(seconds=4)
    second = await clockwork.fired()
    assert second.outcome is RunOutcome.FIRED
    async with platform.database.begin() as uow:
        old = await uow.pipelines.get(platform.project_id, first.pipeline_id or "")
        new = await uow.pipelines.get(platform.project_id, second.pipeline_id or "")
    assert {job.step: job.status for job in old.jobs} == {"first": JobStatus.RUNNING, "second": JobStatus.CANCELLED}
    assert [job.cancel_requested for job in old.jobs if job.id == running.id] == [True]
    assert {job.status for job in new.jobs} == {JobStatus.QUEUED, JobStatus.WAITING}


async def test_a_refused_run_leaves_the_one_before_alone(platform: Platform) -> None:
    master, text = await platform.master(), await platform.dataset()
    template = job_template(spec=quantize_spec(master.ref, text.ref))
    clockwork = await wind_up(platform, template, overlap=OverlapPolicy.CANCEL_PREVIOUS)
    await clockwork.due_since(seconds=5)
    first = await clockwork.fired()
    await platform.sql("update datasets set name = 'renamed' where id = %s", text.id)
    due_at = await clockwork.due_since(seconds=4)
    refused = await clockwork.fired()
    assert (refused.outcome, refused.due_at, refused.job_id) == (RunOutcome.REFUSED, due_at, None)
    assert refused.message is not None and "there is no dataset 'tales'" in refused.message
    job = await platform.job(first.job_id or "")
    assert (job.status, job.cancel_requested) == (JobStatus.QUEUED, False)
    shown = await clockwork.show()
    assert shown.next_run_at is not None and shown.next_run_at > due_at, "the schedule goes on"


async def test_what_was_refused_before_the_transaction_is_written_down(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    await clockwork.due_since(seconds=5)
    run = await clockwork.fired(refusal="there is no queue 'gpu' here")
    assert (run.outcome, run.message) == (RunOutcome.REFUSED, "there is no queue 'gpu' here")
    assert await clockwork.num_jobs() == 0


async def test_missed_runs_are_told_of_in_one_row(platform: Platform) -> None:
    clockwork = await wind_up(platform, missed=MissedPolicy.SKIP)
    first = await clockwork.due_since(hours=5)
    firing = await clockwork.fire()
    assert firing is not None
    missed = firing.runs[0]
    assert (missed.outcome, missed.due_at) == (RunOutcome.MISSED, first)
    # 5, 4, 3, 2 and 1 hours ago; the hour that has just begun is late too, unless it began within the grace.
    assert missed.message is not None and missed.message.startswith(("5 runs", "6 runs"))
    assert all(run.outcome is RunOutcome.FIRED for run in firing.runs[1:])
    assert await clockwork.fire() is None


async def test_missed_runs_are_made_up_for_by_one(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    await clockwork.due_since(hours=5)
    firing = await clockwork.fire()
    assert firing is not None
    assert [run.outcome for run in firing.runs][:2] == [RunOutcome.MISSED, RunOutcome.FIRED]
    assert await clockwork.num_jobs() == 1


async def test_missed_runs_are_all_made_up_for(platform: Platform) -> None:
    clockwork = await wind_up(platform, missed=MissedPolicy.RUN_ALL, overlap=OverlapPolicy.QUEUE)
    first = await clockwork.due_since(hours=MAX_RUNS_PER_PASS + 20)
    firing = await clockwork.fire()
    assert firing is not None
    assert len(firing.runs) == MAX_RUNS_PER_PASS
    assert [run.due_at for run in firing.runs] == [first + number * HOUR for number in range(MAX_RUNS_PER_PASS)]
    assert [run.outcome for run in firing.runs] == [RunOutcome.FIRED] + [RunOutcome.HELD] * (MAX_RUNS_PER_PASS - 1)
    rest = await clockwork.fire()
    assert rest is not None
    # The hundredth place is the last that may wait.
    assert [run.outcome for run in rest.runs][:2] == [RunOutcome.HELD, RunOutcome.SKIPPED]
    assert len(rest.runs) in {20, 21}
    assert await clockwork.fire() is None


async def test_nothing_fires_while_paused_and_then_the_missed_policy_holds(platform: Platform) -> None:
    clockwork = await wind_up(platform, missed=MissedPolicy.SKIP, overlap=OverlapPolicy.QUEUE)
    await clockwork.due_since(seconds=5)
    await clockwork.fired()
    await clockwork.due_since(seconds=4)
    held = await clockwork.fired()
    assert (await clockwork.change(is_paused=True)).next_run_at is None
    await clockwork.due_since(hours=3)
    await clockwork.end_job((await clockwork.runs())[0].job_id)
    async with platform.database.begin() as uow:
        assert await uow.schedules.due() == []
    assert await clockwork.fire() is None
    assert (await clockwork.show()).next_runs == []
    assert (await clockwork.change(is_paused=False)).next_run_at is not None
    firing = await clockwork.fire()
    assert firing is not None
    assert {run.outcome for run in firing.runs} >= {RunOutcome.MISSED, RunOutcome.FIRED}
    assert [run.id for run in firing.runs if run.outcome is RunOutcome.FIRED] == [held.id]
    assert [action for action in await platform.actions() if action.startswith("schedule")] == [
        "schedule.create",
        "schedule.pause",
        "schedule.resume",
    ]


async def test_run_now_is_beside_the_cron_times(platform: Platform) -> None:
    clockwork = await wind_up(platform, is_paused=True)
    run = await clockwork.run_now()
    assert (run.outcome, run.is_manual) == (RunOutcome.FIRED, True)
    assert (await platform.job(run.job_id or "")).schedule_id == clockwork.schedule.id
    with pytest.raises(Conflict, match=f"{run.job_id} of this schedule is not over"):
        await clockwork.run_now()
    assert (await platform.actions())[-1] == "schedule.run"
    await clockwork.change(overlap=OverlapPolicy.QUEUE)
    assert (await clockwork.run_now()).outcome is RunOutcome.HELD
    await clockwork.change(overlap=OverlapPolicy.CANCEL_PREVIOUS)
    assert (await clockwork.runs())[-1].outcome is RunOutcome.SKIPPED
    third = await clockwork.run_now()
    assert third.outcome is RunOutcome.FIRED
    assert (await platform.job(run.job_id or "")).status is JobStatus.CANCELLED


async def test_a_refused_template_is_not_run_by_hand(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    looked_at = prepared(clockwork.template, refusal="no such thing")
    async with platform.database.begin() as uow:
        with pytest.raises(InvalidInput, match="no such thing"):
            await run_schedule_now(uow, platform.admin, clockwork.schedule.id, looked_at)


async def test_another_cron_counts_from_now(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    await clockwork.due_since(hours=5)
    shown = await clockwork.change(cron="0 0 1 1 *", time_zone="Asia/Tokyo")
    assert shown.next_runs[0].strftime("%m-%d %H:%M %z") == "01-01 00:00 +0900"
    assert await clockwork.fire() is None
    # The same cron again is no change, and what is due stays due.
    due_at = await clockwork.due_since(seconds=5)
    assert (await clockwork.change(cron="0 0 1 1 *")).next_run_at == due_at


async def test_a_changed_template_is_what_runs_next(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    old = clockwork.template
    await clockwork.due_since(seconds=5)
    await clockwork.change(template=job_template(spec=import_spec("other"), priority=1))
    async with platform.database.begin() as uow:
        assert await fire_due(uow, clockwork.schedule.id, prepared(old), grace=GRACE) is None, "it was looked at before the change"
    job = await platform.job((await clockwork.fired()).job_id or "")
    assert (job.spec, job.priority) == (import_spec("other"), 1)


async def test_names_and_projects_are_kept_apart(platform: Platform, stranger: Platform) -> None:
    clockwork = await wind_up(platform)
    await wind_up(stranger)
    with pytest.raises(Conflict, match="there is a schedule 'nightly' already"):
        await wind_up(platform)
    async with stranger.database.begin() as uow:
        for call in (
            uow.schedules.get(stranger.project_id, clockwork.schedule.id),
            uow.schedules.runs(stranger.project_id, clockwork.schedule.id),
            delete_schedule(uow, stranger.admin, clockwork.schedule.id),
            run_schedule_now(uow, stranger.admin, clockwork.schedule.id, prepared(clockwork.template)),
        ):
            with pytest.raises(UnknownSchedule):
                await call
        assert len((await uow.schedules.list(stranger.project_id)).data) == 1


async def test_a_deleted_schedule_leaves_its_jobs(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    await clockwork.due_since(seconds=5)
    run = await clockwork.fired()
    async with platform.database.begin() as uow:
        await delete_schedule(uow, platform.admin, clockwork.schedule.id)
    job = await platform.job(run.job_id or "")
    assert (job.status, job.schedule_id) == (JobStatus.QUEUED, None)
    assert (await platform.actions())[-1] == "schedule.delete"
    with pytest.raises(UnknownSchedule):
        await clockwork.show()


async def test_a_cron_that_this_machine_cannot_read_stops_the_schedule(platform: Platform) -> None:
    clockwork = await wind_up(platform)
    await clockwork.due_since(seconds=5)
    await platform.sql("update schedules set time_zone = 'Mars/Olympus' where id = %s", clockwork.schedule.id)
    run = await clockwork.fired()
    assert run.outcome is RunOutcome.REFUSED
    assert run.message is not None and "there is no time zone 'Mars/Olympus'" in run.message
    assert (await clockwork.show()).next_run_at is None
    assert (await clockwork.change(time_zone="UTC")).next_run_at is not None


async def test_old_runs_are_forgotten_but_the_last(platform: Platform) -> None:
    clockwork = await wind_up(platform, overlap=OverlapPolicy.QUEUE)
    await platform.sql(
        "insert into schedule_runs (id, schedule_id, project_id, due_at, outcome, is_manual) "
        "select 'run_' || lpad(to_hex(n), 32, '0'), %s, %s, now() - interval '1 hour' * n, case n when 3 then 'held' else 'fired' end, "
        "false from generate_series(1, 10) n",
        clockwork.schedule.id,
        platform.project_id,
    )
    async with platform.database.begin() as uow:
        assert await uow.schedules.forget_runs(timedelta(days=90)) == 8
    assert [run.outcome for run in await clockwork.runs()] == [RunOutcome.HELD, RunOutcome.FIRED]
