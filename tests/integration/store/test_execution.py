"""Heartbeats and events, and the fence around every attempt."""

from __future__ import annotations

import asyncio

import pytest
from psycopg.sql import SQL, Identifier

from factories.store import ALREADY_EXPIRED_S, LEASE_S, Platform, import_spec, master_draft, succeeded
from quantry_core.errors import InvalidInput, StaleAttempt, UnknownVersion
from quantry_core.execution import EventDraft, EventsRequest, FinishRequest, HeartbeatReply, HeartbeatRequest, Outcome
from quantry_core.jobs import CPU_QUEUE, EventKind, Job, JobReason, JobStatus, Progress
from quantry_store.transactions import append_events, begin_rollout, check_attempt, finish_attempt, queues_with_work, renew_lease


async def heartbeat(platform: Platform, job: Job, *, attempt: int | None = None) -> HeartbeatReply:
    request = HeartbeatRequest(attempt=job.attempt if attempt is None else attempt)
    async with platform.database.begin() as uow:
        return await renew_lease(uow, job.id, request, LEASE_S)


async def append(platform: Platform, job: Job, *events: EventDraft, attempt: int | None = None, offset: int | None = None) -> int:
    """Returns the last seq; as a worker that knows what is stored, where no ``offset`` is given."""
    if offset is None:
        ((offset,),) = await platform.sql("select num_attempt_events from jobs where id = %s", job.id)
    request = EventsRequest(attempt=job.attempt if attempt is None else attempt, offset=offset, events=list(events))
    async with platform.database.begin() as uow:
        return await append_events(uow, job.id, request)


def told(progress: Progress) -> EventDraft:
    return EventDraft(kind=EventKind.PROGRESS, data=progress.model_dump(mode="json"))


def log(text: str) -> EventDraft:
    return EventDraft(kind=EventKind.LOG, data={"text": text})


async def test_queues_with_work(platform: Platform) -> None:
    async with platform.database.begin() as uow:
        assert await queues_with_work(uow) == []
    await platform.rollout(await platform.master())
    async with platform.database.begin() as uow:
        assert await queues_with_work(uow) == [], "a deploy job is no work for workers"
    await platform.submit(import_spec())
    async with platform.database.begin() as uow:
        assert await queues_with_work(uow) == [CPU_QUEUE]


async def test_heartbeat_renews(platform: Platform) -> None:
    job = await platform.running(import_spec(), lease_s=5)
    before = await platform.sql("select lease_expires_at from jobs")
    assert await heartbeat(platform, job) == HeartbeatReply(lease_s=LEASE_S, cancel_requested=False)
    assert (await platform.sql("select lease_expires_at from jobs"))[0][0] > before[0][0]


async def test_events_have_no_holes_whoever_writes(platform: Platform) -> None:
    job = await platform.running(import_spec())
    lines = [log(f"line {n}") for n in range(30)]
    # A worker whose answers get lost sends everything again, from the start, while others write too.
    batches = [append(platform, job, *lines[: 5 * (n + 1)], offset=0) for n in range(6)]
    async with platform.database.begin() as uow:
        await uow.jobs.request_cancel(await uow.jobs.lock(platform.project_id, job.id))
    await asyncio.gather(*batches, *(heartbeat(platform, job) for _ in range(6)))
    events = await platform.events(job)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.data["text"] for event in events if event.kind is EventKind.LOG] == [f"line {n}" for n in range(30)]


async def test_events_sent_again_are_stored_once(platform: Platform) -> None:
    job = await platform.running(import_spec())
    half, done = (told(Progress(phase="copy", fraction=fraction)) for fraction in (0.5, 1.0))
    assert await append(platform, job, log("a"), half, offset=0) == 4
    assert await append(platform, job, log("a"), half, offset=0) == 4
    assert await append(platform, job, half, log("b"), done, offset=1) == 6
    assert await append(platform, job, log("a"), offset=0) == 6, "an old one that comes late"
    assert await append(platform, job, log("c"), offset=4) == 7
    texts = [event.data.get("text", event.data.get("fraction")) for event in (await platform.events(job))[2:]]
    assert texts == ["a", 0.5, "b", 1.0, "c"]
    with pytest.raises(InvalidInput, match="begin at 9, but only 5 of this attempt are stored"):
        await append(platform, job, log("d"), offset=9)
    assert len(await platform.events(job)) == 7


async def test_each_attempt_counts_its_events_anew(platform: Platform) -> None:
    job = await platform.running(import_spec())
    await append(platform, job, log("a"), log("b"), offset=0)
    await platform.finish(job, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST)
    again = await platform.claim()
    await append(platform, again, log("a"), offset=0)
    logs = [(event.attempt, event.data["text"]) for event in await platform.events(job) if event.kind is EventKind.LOG]
    assert logs == [(1, "a"), (1, "b"), (2, "a")]


async def test_events_are_read_from_a_place_on(platform: Platform) -> None:
    job = await platform.running(import_spec())
    assert await append(platform, job, log("a"), EventDraft(kind=EventKind.NOTE, data={"text": "b"}), log("c")) == 5
    async with platform.database.begin() as uow:
        assert [event.seq for event in await uow.events.after(platform.project_id, job.id, 3)] == [4, 5]
        assert [event.seq for event in await uow.events.after(platform.project_id, job.id, 0, limit=2)] == [1, 2]
        assert await uow.events.after(platform.project_id, job.id, 10**30) == []
        assert [event.data["text"] for event in await uow.events.logs(platform.project_id, job.id)] == ["a", "c"]
        assert await uow.events.logs(platform.project_id, job.id, attempt=2) == []
        assert await uow.events.logs(platform.project_id, job.id, attempt=10**30) == []


async def test_whatever_a_child_prints_can_be_kept(platform: Platform) -> None:
    job = await platform.running(import_spec())
    await append(platform, job, EventDraft(kind=EventKind.LOG, data={"text": "a\x00b\ud800c", "n\x00": [float("nan"), float("inf"), 1.5]}))
    assert (await platform.events(job))[-1].data == {"text": "a\ufffdb?c", "n\ufffd": [None, None, 1.5]}


async def test_progress_events_set_the_job_and_bad_ones_are_refused(platform: Platform) -> None:
    job = await platform.running(import_spec())
    last = {"phase": "write", "fraction": 0.75, "detail": ""}
    first = {"phase": "copy", "fraction": 0.1}
    drafts = [EventDraft(kind=EventKind.PROGRESS, data=data) for data in (first, last)]
    await append(platform, job, drafts[0], log("x"), drafts[1], log("y"))
    assert (await platform.job(job.id)).progress == Progress.model_validate(last)
    num_events = len(await platform.events(job))
    with pytest.raises(InvalidInput, match=r"events\.1: not a progress event"):
        await append(platform, job, log("x"), EventDraft(kind=EventKind.PROGRESS, data={"fraction": 7}))
    with pytest.raises(InvalidInput, match=r"events\.0: only the control plane"):
        await append(platform, job, EventDraft(kind=EventKind.STATE, data={"status": "succeeded"}))
    assert len(await platform.events(job)) == num_events


async def test_progress_of_an_attempt_never_goes_back_and_is_told_once(platform: Platform) -> None:
    job = await platform.running(import_spec())
    steps = [Progress(phase="copy", fraction=fraction) for fraction in (0.2, 0.5, 0.6)]
    last_seq = await append(platform, job, told(steps[1]), log("x"))
    assert await append(platform, job, told(steps[0]), told(steps[1])) == last_seq
    assert (await platform.job(job.id)).progress == steps[1]
    await append(platform, job, told(steps[2]))
    assert (await platform.job(job.id)).progress == steps[2]
    fractions = [event.data["fraction"] for event in await platform.events(job) if event.kind is EventKind.PROGRESS]
    assert fractions == [0.5, 0.6]
    await platform.finish(job, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST)
    again = await platform.claim()
    assert again.progress is None
    await append(platform, again, told(steps[0]))
    assert (await platform.job(job.id)).progress == steps[0], "a new attempt begins anew"


async def finish_as_it_is(platform: Platform, job: Job) -> None:
    """Finishes as succeeded without a seal of its own."""
    request = FinishRequest.model_validate({"attempt": job.attempt, **succeeded(master_draft())})
    async with platform.database.begin() as uow:
        await finish_attempt(uow, job.id, request)


async def every_write_is_refused(platform: Platform, job: Job) -> None:
    """Tries all that attempt ``job.attempt`` may write, and checks that nothing was."""
    everything = (
        "select (select jsonb_agg(to_jsonb(jobs)) from jobs), (select count(*) from job_events), (select count(*) from seals),"
        " (select count(*) from versions), (select count(*) from blobs)"
    )
    before = await platform.sql(everything)

    async def check() -> None:
        async with platform.database.begin() as uow:
            await check_attempt(uow, job.id, job.attempt)

    for write in (
        heartbeat(platform, job),
        append(platform, job, log("from the dead")),
        append(platform, job, log("from the dead"), offset=0),
        platform.seal(job, master_draft().files),
        finish_as_it_is(platform, job),
        platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INTERNAL),
        platform.finish(job, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST),
        check(),
    ):
        with pytest.raises(StaleAttempt):
            await write
    assert await platform.sql(everything) == before


async def test_held_attempts_are_those_of_every_project_with_a_lease(platform: Platform, stranger: Platform) -> None:
    rollout = await platform.rollout(await platform.master())
    async with platform.database.begin() as uow:
        await begin_rollout(uow, rollout.id)
    await platform.running(import_spec(), lease_s=ALREADY_EXPIRED_S)
    held, theirs = await platform.running(import_spec()), await stranger.running(import_spec())
    await platform.submit(import_spec())
    async with platform.database.begin() as uow:
        assert await uow.leases.held_attempts() == {(held.id, 1), (theirs.id, 1)}


async def test_expired_lease_is_stale_even_before_the_sweep(platform: Platform) -> None:
    await every_write_is_refused(platform, await platform.running(import_spec(), lease_s=ALREADY_EXPIRED_S))


async def test_old_attempt_writes_nothing_once_another_holds_the_job(platform: Platform) -> None:
    zombie = await platform.running(import_spec(), lease_s=ALREADY_EXPIRED_S)
    await platform.sweep()
    await every_write_is_refused(platform, zombie)
    current = await platform.claim()
    assert (current.id, current.attempt) == (zombie.id, 2)
    await every_write_is_refused(platform, zombie)
    assert (await heartbeat(platform, current)).cancel_requested is False


async def test_ended_job_and_absurd_attempts_are_stale(platform: Platform) -> None:
    job = await platform.running(import_spec())
    for attempt in (0, -1, 2, 10**30):
        with pytest.raises(StaleAttempt):
            await heartbeat(platform, job, attempt=attempt)
        with pytest.raises(StaleAttempt):
            await append(platform, job, log("x"), attempt=attempt)
    await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.DIVERGED)
    await every_write_is_refused(platform, job)


async def test_attempt_that_waits_to_be_tried_again_writes_nothing(platform: Platform) -> None:
    job = await platform.running(import_spec())
    waiting = await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.OUT_OF_MEMORY)
    assert waiting.status is JobStatus.WAITING
    await every_write_is_refused(platform, job)


async def test_a_worker_serves_every_project(platform: Platform, stranger: Platform) -> None:
    """The worker's key is of the project ``default``, as every stack has one; the job is another's."""
    submitted = await stranger.submit(import_spec())
    lease = await platform.lease()
    assert lease is not None
    job = lease.job
    assert (job.id, job.project_id) == (submitted.id, stranger.project_id)
    await heartbeat(platform, job)
    await append(platform, job, log("x"))
    done = await platform.finish(job, **succeeded(master_draft()))
    assert done.result is not None
    async with platform.database.begin() as uow:
        version = await uow.versions.get(stranger.project_id, done.result.version_id or "")
        with pytest.raises(UnknownVersion):
            await uow.versions.get(platform.project_id, version.id)
    for table in ("seals", "versions", "version_files", "models", "job_events"):
        rows = await platform.sql(SQL("select distinct project_id from {}").format(Identifier(table)))
        assert rows == [(stranger.project_id,)], table


async def test_heartbeat_that_waited_for_a_sweep_is_refused(platform: Platform) -> None:
    job = await platform.running(import_spec())
    async with platform.database.begin() as uow:
        # The sweep's statement, a moment later than the heartbeat's clock: the row's new version decides, not the old one.
        locked = await uow.jobs.lock(platform.project_id, job.id)
        waiting = asyncio.create_task(heartbeat(platform, job))
        await _until_someone_waits(platform)
        await uow.jobs.move(locked, JobStatus.QUEUED, reason=JobReason.WORKER_LOST)
    with pytest.raises(StaleAttempt):
        await waiting


async def test_only_one_of_two_finishes_at_once_counts(platform: Platform) -> None:
    job = await platform.running(import_spec())
    ends = await asyncio.gather(
        platform.finish(job, **succeeded(master_draft())),
        platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.DIVERGED),
        return_exceptions=True,
    )
    assert sorted(type(end).__name__ for end in ends) == ["Job", "StaleAttempt"]
    assert len([event for event in await platform.events(job) if event.kind is EventKind.STATE]) == 3


async def _until_someone_waits(platform: Platform) -> None:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    for _ in range(1000):
        if await platform.sql(waiting) != [(0,)]:
            return
        await asyncio.sleep(0.01)
    pytest.fail("nobody came to wait for the lock")
