"""What is not kept for ever: each kind goes when its time is over, in steps, and what went is reported."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest

from factories.retention import DAY_S, batches, counted, loop_of, one_run, removed
from factories.store import WORKER_ID, Platform, import_spec, master_draft, succeeded
from quantry_api.retention.loop import MAX_TRIES
from quantry_core.errors import NotFound, Unavailable
from quantry_core.execution import EventDraft, EventsRequest
from quantry_core.jobs import EventKind, Job
from quantry_core.retention import Removed, RetentionKind, RetentionPart, RetentionRunStatus
from quantry_store.repositories.audit import CUT_ACTION
from quantry_store.transactions import append_events
from quantry_store.transactions.retention import MAX_JOBS_PER_STEP, MAX_ROWS_PER_STEP, STEPS, step_retention
from quantry_store.unit_of_work import UnitOfWork

EVENTS = [
    EventDraft(kind=EventKind.LOG, data={"text": "x"}),
    EventDraft(kind=EventKind.PROGRESS, data={"phase": "copy", "fraction": 0.5}),
    EventDraft(kind=EventKind.NOTE, data={"text": "the child was started"}),
]
KEPT = [EventKind.STATE, EventKind.STATE, EventKind.NOTE, EventKind.STATE]
KEY = "insert into idempotency_keys values (%s, 'key-' || %s, 'digest', 'job_1', now() - %s * interval '1 hour')"


async def told(platform: Platform) -> Job:
    """Returns a running job with a log."""
    job = await platform.running(import_spec())
    async with platform.database.begin() as uow:
        await append_events(uow, job.id, EventsRequest(attempt=1, offset=0, events=EVENTS))
    return job


async def ended(platform: Platform, *, days_ago: float) -> Job:
    job = await platform.finish(await told(platform), **succeeded(master_draft()))
    await platform.sql("update jobs set finished_at = now() - %s * interval '1 day' where id = %s", days_ago, job.id)
    return job


async def is_whole(platform: Platform) -> bool:
    async with platform.database.begin() as uow:
        await uow.read_one_moment()
        return (await uow.audit.verify(platform.project_id)).is_whole


async def test_logs_of_jobs_that_ended_long_ago_are_deleted(platform: Platform) -> None:
    old, young, running = await ended(platform, days_ago=31), await ended(platform, days_ago=29), await told(platform)
    await platform.sql("update jobs set created_at = now() - interval '99 days'")
    assert await removed(platform.database, RetentionKind.JOB_EVENTS, 30) == 2, "its line and its progress"
    assert [event.kind for event in await platform.events(old)] == KEPT
    assert [event.seq for event in await platform.events(old)] == [1, 2, 5, 6]
    assert len(await platform.events(young)) == 6
    assert len(await platform.events(running)) == 5
    assert await batches(platform.database, RetentionKind.JOB_EVENTS, 30) == []


async def test_logs_are_deleted_a_batch_at_a_time(platform: Platform) -> None:
    for _ in range(3):
        await ended(platform, days_ago=31)
    # Finished jobs without a log are batches too, and do not make the last one look done.
    await platform.sql(
        "insert into jobs select (jsonb_populate_record(jobs, jsonb_build_object('id', 'job_' || n, 'finished_at', '2020-01-01'))).*"
        " from jobs, generate_series(1, %s) n where id = (select min(id) from jobs)",
        MAX_JOBS_PER_STEP + 1,
    )
    assert await batches(platform.database, RetentionKind.JOB_EVENTS, 30) == [0, 6]
    assert await platform.sql("select count(*) from job_events where kind in ('log', 'progress')") == [(0,)]


async def test_old_keys_and_workers_are_forgotten(platform: Platform) -> None:
    for key, hours_ago in (("old", 25), ("young", 23)):
        await platform.sql(KEY, platform.project_id, key, hours_ago)
    for worker_id, unseen_s in ((WORKER_ID, 7 * DAY_S + 60), ("wrk_" + "1" * 32, 7 * DAY_S - 60)):
        await platform.sql(
            "insert into workers values (%s, %s, 'a', 1, '0', '[]', 1, '{}', '[]', null, now(), now() - %s * interval '1 second')",
            worker_id,
            platform.project_id,
            unseen_s,
        )
    assert await removed(platform.database, RetentionKind.IDEMPOTENCY_KEYS, 1) == 1
    assert await removed(platform.database, RetentionKind.WORKERS, 7) == 1
    assert await platform.sql("select key from idempotency_keys") == [("key-young",)]
    assert await platform.sql("select id from workers") == [("wrk_" + "1" * 32,)]


async def test_the_newest_run_of_a_schedule_stays_and_so_does_what_is_held(platform: Platform) -> None:
    await platform.sql(
        "insert into schedules (id, project_id, name, cron, time_zone, template, overlap, missed, is_paused, created_by_key_id,"
        " created_by_role) values ('sch_1', %s, 'n', '0 0 * * *', 'UTC', '{}', 'skip', 'skip', false, 'key_1', 'operator')",
        platform.project_id,
    )
    for number, outcome in enumerate(("skipped", "held", "skipped", "skipped")):
        await platform.sql(
            "insert into schedule_runs (id, schedule_id, project_id, due_at, fired_at, outcome, is_manual)"
            " values (%s, 'sch_1', %s, now() - %s * interval '1 day', now() - interval '400 days', %s, false)",
            f"run_{number}",
            platform.project_id,
            400 - number,
            outcome,
        )
    assert await removed(platform.database, RetentionKind.SCHEDULE_RUNS, 365) == 2
    assert await platform.sql("select id from schedule_runs order by id") == [("run_1",), ("run_3",)]


async def test_a_run_reports_what_it_removed_and_the_audit_log_tells_of_it(platform: Platform) -> None:
    await ended(platform, days_ago=31)
    await platform.sql(KEY, platform.project_id, "old", 25)
    await platform.sql(KEY, platform.project_id, "young", 2)
    counted_only = await one_run(platform.database, platform.project_id, dry_run=True)
    assert counted(counted_only) == {"job-events": 2, "idempotency-keys": 1}
    assert await platform.sql("select count(*) from idempotency_keys") == [(2,)], "a dry run removes nothing"
    assert "retention.run" not in await platform.actions()
    run = await one_run(platform.database, platform.project_id)
    assert (counted(run), run.status, run.part) == (counted(counted_only), RetentionRunStatus.SUCCEEDED, RetentionPart.API)
    assert run.size_bytes == pytest.approx(counted_only.size_bytes, rel=0.05)
    assert run.size_bytes > 0
    by_kind = {count.kind: count for count in run.counts}
    (young_at,) = (await platform.sql("select created_at from idempotency_keys"))[0]
    assert by_kind[RetentionKind.IDEMPOTENCY_KEYS].oldest_kept_at == young_at
    assert RetentionKind.AUDIT not in by_kind, "it is kept for ever, and not looked at"
    (entry,) = await platform.sql("select noun_id, data from audit_log where action = 'retention.run'")
    assert entry == (run.id, {"removed": counted(run), "size_bytes": run.size_bytes})
    again = await one_run(platform.database, platform.project_id)
    assert (again.num_removed, again.status) == (0, RetentionRunStatus.SUCCEEDED)
    assert (await platform.actions()).count("retention.run") == 1, "a run that removed nothing is no news"
    async with platform.database.begin() as uow:
        listed = await uow.retention.runs.list(limit=2)
        assert [one.id for one in listed.data] == [again.id, run.id]
        assert listed.data[1] == run
        with pytest.raises(NotFound):
            await uow.retention.runs.get("ret_" + "0" * 32)


async def test_a_kind_that_is_kept_for_ever_is_never_touched(platform: Platform) -> None:
    await ended(platform, days_ago=4000)
    await platform.sql(KEY, platform.project_id, "old", 100_000)
    run = await one_run(platform.database, platform.project_id, log_keep_days=0, idempotency_keep_days=0)
    assert run.num_removed == 0
    assert not {RetentionKind.JOB_EVENTS, RetentionKind.IDEMPOTENCY_KEYS} & {count.kind for count in run.counts}


async def test_a_run_whose_process_died_goes_on_where_it_stands(platform: Platform) -> None:
    """The first process removes one batch and is gone; what it removed is in the report, and another finishes the run."""
    await platform.sql(
        "insert into idempotency_keys select %s, 'key-' || n, 'digest', 'job_1', now() - interval '2 days' from generate_series(1, %s) n",
        platform.project_id,
        2 * MAX_ROWS_PER_STEP,
    )
    async with platform.database.begin() as uow:
        asked = await uow.retention.runs.add(platform.project_id, dry_run=False, who=None)
        claim = await uow.retention.runs.claim(120)
    assert claim is not None
    async with platform.database.begin() as uow:
        stepped = await step_retention(uow, claim, RetentionKind.IDEMPOTENCY_KEYS, DAY_S, hold_s=120)
    assert stepped is not None
    assert not stepped[1]
    loop = loop_of(platform.database)
    assert await loop.play_next() is None, "its claim has not run out"
    await platform.sql("update retention_runs set claimed_until = now() - interval '1 second'")
    run = await loop.play_next()
    assert run is not None
    assert (run.id, counted(run)) == (asked.id, {"idempotency-keys": 2 * MAX_ROWS_PER_STEP})
    # The one that was thought dead comes back: it removes nothing any more, whatever there is.
    await platform.sql(KEY, platform.project_id, "late", 99)
    async with platform.database.begin() as uow:
        assert await step_retention(uow, stepped[0], RetentionKind.IDEMPOTENCY_KEYS, DAY_S, hold_s=120) is None
    assert await platform.sql("select count(*) from idempotency_keys") == [(1,)]


async def test_a_step_that_is_broken_off_removes_and_reports_nothing(platform: Platform) -> None:
    await platform.sql(KEY, platform.project_id, "old", 99)
    async with platform.database.begin() as uow:
        await uow.retention.runs.add(platform.project_id, dry_run=False, who=None)
        claim = await uow.retention.runs.claim(120)
    assert claim is not None
    with suppress(KeyboardInterrupt):
        async with platform.database.begin() as uow:
            assert await step_retention(uow, claim, RetentionKind.IDEMPOTENCY_KEYS, DAY_S, hold_s=120) is not None
            raise KeyboardInterrupt
    assert await platform.sql("select count(*) from idempotency_keys") == [(1,)]
    assert await platform.sql("select count(*) from retention_counts") == [(0,)]


async def test_nothing_waits_for_a_writer_and_no_writer_for_this(platform: Platform) -> None:
    """What another transaction has locked is left out, and taken by the next run."""
    old = await ended(platform, days_ago=31)
    await platform.sql(KEY, platform.project_id, "held", 99)
    await platform.sql(KEY, platform.project_id, "free", 99)
    with psycopg.connect(platform.url.replace("+psycopg", "")) as writer:
        writer.execute("select from idempotency_keys where key = 'key-held' for update")
        writer.execute("select from jobs where id = %s for update", (old.id,))
        assert counted(await one_run(platform.database, platform.project_id)) == {"idempotency-keys": 1}
    async with platform.database.begin() as uow:
        await STEPS[RetentionKind.IDEMPOTENCY_KEYS].remove(uow, DAY_S)
        await STEPS[RetentionKind.JOB_EVENTS].remove(uow, 30 * DAY_S)
        # Beside a step that is not committed yet, writers of the same tables and of the same project go on.
        await platform.sql(KEY, platform.project_id, "new", 0)
        await told(platform)
    assert await platform.sql("select key from idempotency_keys") == [("key-new",)]


@pytest.mark.parametrize(
    ("failure", "words", "num_tries"),
    [
        (RuntimeError("no such thing"), "RuntimeError: see the api's log", 1),
        # A statement that took too long looks so, and must not keep every later run from getting past it.
        (Unavailable("the database did not answer; try again"), "the database did not answer; try again", MAX_TRIES + 1),
    ],
)
async def test_one_kind_that_fails_keeps_back_no_other(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, failure: Exception, words: str, num_tries: int
) -> None:
    await platform.sql(KEY, platform.project_id, "old", 99)
    tries = []

    async def broken(_uow: UnitOfWork, keep_s: float | None) -> Removed:
        tries.append(keep_s)
        raise failure

    broken_step = replace(STEPS[RetentionKind.JOB_EVENTS], remove=broken)
    monkeypatch.setattr("quantry_store.transactions.retention.STEPS", {**STEPS, RetentionKind.JOB_EVENTS: broken_step})
    run = await one_run(platform.database, platform.project_id)
    assert (run.status, counted(run)) == (RetentionRunStatus.FAILED, {"idempotency-keys": 1})
    errors = {count.kind: count.error for count in run.counts if count.error}
    assert errors == {RetentionKind.JOB_EVENTS: words}
    assert len(tries) == num_tries


async def test_the_clock_asks_once_in_an_interval_and_for_one_run_of_all_replicas(platform: Platform) -> None:
    loops = [loop_of(platform.database, retention_interval_s=3600) for _ in range(2)]
    for loop in loops:
        await loop.look()
        await loop.look()
    assert await platform.sql("select count(*) from retention_runs where finished_at is not null") == [(1,)]
    await platform.sql("update retention_runs set created_at = now() - interval '2 hours'")
    await loops[0].look()
    assert await platform.sql("select count(*) from retention_runs where finished_at is not null") == [(2,)]


async def test_the_audit_chain_verifies_after_a_cut(platform: Platform, stranger: Platform) -> None:
    for number in range(4):
        await platform.submit(import_spec(f"model-{number}"))
        await stranger.submit(import_spec(f"model-{number}"))
    assert counted(await one_run(platform.database, platform.project_id, audit_keep_days=1)) == {}, "nothing is a day old"
    ((before, num_entries),) = await platform.sql("select now(), count(*) from audit_log")
    audit = STEPS[RetentionKind.AUDIT]
    steps: list[Removed] = []
    async with platform.database.begin() as uow:
        over = await audit.over(uow, (await uow.now() - before).total_seconds())
    assert over.size_bytes > 0
    while not steps or steps[-1].has_more:
        async with platform.database.begin() as uow:
            steps.append(await audit.remove(uow, (await uow.now() - before).total_seconds()))
    each = over.num // 2
    assert over.num == num_entries - 2, "the newest entry of each chain stays"
    assert [step.num_removed for step in steps] == [each, each, 0], "a project at a time, and what the dry run said"
    ((later,),) = await platform.sql("select now()")
    async with platform.database.begin() as uow:
        keep_s = (await uow.now() - later).total_seconds()
        assert (await audit.over(uow, keep_s)).num == 0
        assert not (await audit.remove(uow, keep_s)).num_removed, "a log at rest is not cut for the entries of its own cuts"
    for one in (platform, stranger):
        assert await is_whole(one)
        await one.submit(import_spec("after"))
        assert await is_whole(one)
        assert CUT_ACTION in await one.actions()


async def test_reports_themselves_go_when_their_time_is_over(platform: Platform) -> None:
    run = await one_run(platform.database, platform.project_id)
    await platform.sql("update retention_runs set finished_at = now() - interval '366 days'")
    assert counted(await one_run(platform.database, platform.project_id)) == {"retention-runs": 1}
    assert await platform.sql("select count(*) from retention_counts where run_id = %s", run.id) == [(0,)]
