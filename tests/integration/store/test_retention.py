"""What is not kept for ever: logs and progress of jobs long ended, old keys, workers long gone."""

from __future__ import annotations

from factories.store import WORKER_ID, Platform, import_spec, master_draft, succeeded
from quantry_core.execution import EventDraft, EventsRequest
from quantry_core.jobs import EventKind, Job
from quantry_store.transactions import append_events, clean_up
from quantry_store.transactions.retention import MAX_JOBS_PER_CLEAN_UP, WORKER_UNSEEN_S

DAY_S = 24 * 3600.0
EVENTS = [
    EventDraft(kind=EventKind.LOG, data={"text": "x"}),
    EventDraft(kind=EventKind.PROGRESS, data={"phase": "copy", "fraction": 0.5}),
    EventDraft(kind=EventKind.NOTE, data={"text": "the child was started"}),
]
KEPT = [EventKind.STATE, EventKind.STATE, EventKind.NOTE, EventKind.STATE]


async def cleaned(platform: Platform) -> int:
    async with platform.database.begin() as uow:
        return await clean_up(
            uow, log_retention_s=30 * DAY_S, key_retention_s=DAY_S, checkpoint_retention_s=7 * DAY_S, traffic_retention_s=30 * DAY_S
        )


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


async def test_logs_of_jobs_that_ended_long_ago_are_deleted(platform: Platform) -> None:
    old, young, running = await ended(platform, days_ago=31), await ended(platform, days_ago=29), await told(platform)
    await platform.sql("update jobs set created_at = now() - interval '99 days'")
    assert await cleaned(platform) == 3, "the job, its line and its progress"
    assert [event.kind for event in await platform.events(old)] == KEPT
    assert [event.seq for event in await platform.events(old)] == [1, 2, 5, 6]
    assert len(await platform.events(young)) == 6
    assert len(await platform.events(running)) == 5
    assert await cleaned(platform) == 0


async def test_logs_are_deleted_a_batch_at_a_time(platform: Platform) -> None:
    for _ in range(3):
        await ended(platform, days_ago=31)
    # Finished jobs without a log are batches too, and do not make the last one look done.
    await platform.sql(
        "insert into jobs select (jsonb_populate_record(jobs, jsonb_build_object('id', 'job_' || n, 'finished_at', '2020-01-01'))).*"
        " from jobs, generate_series(1, %s) n where id = (select min(id) from jobs)",
        MAX_JOBS_PER_CLEAN_UP + 1,
    )
    batches = []
    while num_rows := await cleaned(platform):
        batches.append(num_rows)
    assert batches == [MAX_JOBS_PER_CLEAN_UP, 4 + 6]
    assert await platform.sql("select count(*) from job_events where kind in ('log', 'progress')") == [(0,)]


async def test_old_keys_and_workers_are_forgotten(platform: Platform) -> None:
    for key, hours_ago in (("old", 25), ("young", 23)):
        await platform.sql(
            "insert into idempotency_keys values (%s, %s, 'digest', 'job_1', now() - %s * interval '1 hour')",
            platform.project_id,
            key,
            hours_ago,
        )
    for worker_id, unseen_s in ((WORKER_ID, WORKER_UNSEEN_S + 60), ("wrk_" + "1" * 32, WORKER_UNSEEN_S - 60)):
        await platform.sql(
            "insert into workers values (%s, %s, 'a', 1, '0', '[]', 1, '{}', '[]', null, now(), now() - %s * interval '1 second')",
            worker_id,
            platform.project_id,
            unseen_s,
        )
    assert await cleaned(platform) == 2
    assert await platform.sql("select key from idempotency_keys") == [("young",)]
    assert await platform.sql("select id from workers") == [("wrk_" + "1" * 32,)]
    assert await cleaned(platform) == 0
