"""Claims, heartbeats and events: order, skipping what is locked, and the fence around every attempt."""

from __future__ import annotations

import asyncio

import pytest

from factories.store import ALREADY_EXPIRED_S, LEASE_S, Platform, import_spec, master_draft, quantize_spec, succeeded
from quantry_core.errors import InvalidInput, StaleAttempt
from quantry_core.execution import EventDraft, EventsRequest, HeartbeatReply, HeartbeatRequest, NextRequest, Outcome
from quantry_core.jobs import EventKind, InputRole, Job, JobReason, JobStatus, Progress, Queue
from quantry_core.keys import Identity
from quantry_core.methods import Environment, Format
from quantry_core.versions import VersionKind
from quantry_store.transactions import append_events, begin_rollout, check_attempt, claim_next, queues_with_work, renew_lease

REQUEST = NextRequest(queue=Queue.CPU, worker_id="host:1", environments=[Environment.ML])


async def heartbeat(
    platform: Platform, job: Job, *, attempt: int | None = None, progress: Progress | None = None, worker: Identity | None = None
) -> HeartbeatReply:
    request = HeartbeatRequest(attempt=job.attempt if attempt is None else attempt, progress=progress)
    async with platform.database.begin() as uow:
        return await renew_lease(uow, job.id, request, LEASE_S, worker=worker or platform.worker)


async def append(platform: Platform, job: Job, *events: EventDraft, attempt: int | None = None) -> int:
    request = EventsRequest(attempt=job.attempt if attempt is None else attempt, events=list(events))
    async with platform.database.begin() as uow:
        return await append_events(uow, job.id, request, worker=platform.worker)


def log(text: str) -> EventDraft:
    return EventDraft(kind=EventKind.LOG, data={"text": text})


async def test_claims_go_by_priority_then_age(platform: Platform) -> None:
    late, early = await platform.submit(import_spec(), priority=5), await platform.submit(import_spec(), priority=5)
    await platform.sql("update jobs set created_at = created_at + interval '1 hour' where id = %s", late.id)
    urgent, idle = await platform.submit(import_spec(), priority=0), await platform.submit(import_spec(), priority=9)
    assert [(await platform.claim()).id for _ in range(4)] == [urgent.id, early.id, late.id, idle.id]
    assert await platform.lease() is None


async def test_lease_says_all_a_worker_needs(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    await platform.submit(quantize_spec("bard", "tales"))
    lease = await platform.lease()
    assert lease is not None
    assert (lease.attempt, lease.job.attempt, lease.job.status, lease.lease_s, lease.heartbeat_s) == (1, 1, JobStatus.RUNNING, LEASE_S, 10)
    assert lease.job.started_at is not None
    base, calibration = lease.inputs
    assert (base.role, base.id, base.ref) == (InputRole.BASE, master.id, "bard@1")
    assert (base.kind, base.format) == (VersionKind.MASTER, Format.SAFETENSORS)
    assert [file.path for file in base.files] == ["config.json", "model.safetensors"]
    assert (calibration.role, calibration.id, calibration.ref) == (InputRole.CALIBRATION, tales.id, "tales@1")
    assert [(file.path, file.sha256, file.size_bytes) for file in calibration.files] == [("text.txt", tales.sha256, tales.size_bytes)]


async def test_jobs_wait_for_a_worker_with_their_environment(platform: Platform) -> None:
    await platform.submit(import_spec())
    assert await platform.lease(environments=[]) is None
    assert await platform.lease(environments=[Environment.ML]) is not None


async def test_claimers_skip_what_another_is_taking(platform: Platform) -> None:
    first, second = await platform.submit(import_spec()), await platform.submit(import_spec())
    async with platform.database.begin() as one, platform.database.begin() as two, platform.database.begin() as three:
        leases = [await claim_next(uow, platform.worker, REQUEST, lease_s=LEASE_S, heartbeat_s=10) for uow in (one, two, three)]
    assert [lease.job.id if lease is not None else None for lease in leases] == [first.id, second.id, None]


async def test_no_job_is_claimed_twice(platform: Platform) -> None:
    jobs = [await platform.submit(import_spec()) for _ in range(12)]

    async def slot() -> list[str]:
        claimed = []
        while (lease := await platform.lease()) is not None:
            claimed.append(lease.job.id)
        return claimed

    claimed = [job_id for ids in await asyncio.gather(*(slot() for _ in range(4))) for job_id in ids]
    assert sorted(claimed) == sorted(job.id for job in jobs)


async def test_unreadable_job_is_ended_and_the_next_one_claimed(platform: Platform) -> None:
    bad, unknown, good = [await platform.submit(import_spec()) for _ in range(3)]
    await platform.sql("update jobs set spec = spec - 'source' where id = %s", bad.id)
    await platform.sql("update jobs set type = 'distill' where id = %s", unknown.id)
    assert (await platform.claim()).id == good.id
    assert await platform.lease() is None
    ((status, reason, message, attempt, is_finished),) = await platform.sql(
        "select status, reason, message, attempt, finished_at is not null from jobs where id = %s", bad.id
    )
    assert (status, reason, attempt, is_finished) == ("failed", "internal", 1, True)
    assert "cannot be read by this release (spec.import.source: Field required)" in message
    assert [event.data["status"] for event in await platform.events(bad)] == ["queued", "running", "failed"]
    assert await platform.sql("select status from jobs where id = %s", unknown.id) == [("queued",)], "left to a release that knows it"


async def test_queues_with_work(platform: Platform) -> None:
    async with platform.database.begin() as uow:
        assert await queues_with_work(uow) == []
    await platform.rollout(await platform.master())
    async with platform.database.begin() as uow:
        assert await queues_with_work(uow) == [], "a deploy job is no work for workers"
    await platform.submit(import_spec())
    async with platform.database.begin() as uow:
        assert await queues_with_work(uow) == [Queue.CPU]


async def test_heartbeat_renews_and_carries_progress(platform: Platform) -> None:
    job = await platform.running(import_spec(), lease_s=5)
    before = await platform.sql("select lease_expires_at from jobs")
    progress = Progress(phase="copy", fraction=0.5, detail="1 of 2")
    assert await heartbeat(platform, job, progress=progress) == HeartbeatReply(lease_s=LEASE_S, cancel_requested=False)
    await heartbeat(platform, job, progress=progress)
    assert (await platform.sql("select lease_expires_at from jobs"))[0][0] > before[0][0]
    assert (await platform.job(job.id)).progress == progress
    assert [event.kind for event in await platform.events(job)] == [EventKind.STATE, EventKind.STATE, EventKind.PROGRESS]


async def test_events_have_no_holes_whoever_writes(platform: Platform) -> None:
    job = await platform.running(import_spec())
    batches = [append(platform, job, *(log(f"{writer}.{line}") for line in range(5))) for writer in range(6)]
    await asyncio.gather(*batches, *(heartbeat(platform, job, progress=Progress(phase="x", fraction=n / 10)) for n in range(6)))
    events = await platform.events(job)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    texts = [event.data["text"] for event in events if event.kind is EventKind.LOG]
    assert len(texts) == 30
    for writer in range(6):
        assert [text for text in texts if text.startswith(f"{writer}.")] == [f"{writer}.{line}" for line in range(5)]


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
    drafts = [EventDraft(kind=EventKind.PROGRESS, data=step.model_dump(mode="json")) for step in steps]
    await heartbeat(platform, job, progress=steps[1])
    # The events of the same steps come later than the heartbeat that told of the second.
    last_seq = await append(platform, job, drafts[0], log("x"), drafts[1])
    assert (await platform.job(job.id)).progress == steps[1]
    assert await append(platform, job, drafts[0]) == last_seq
    await append(platform, job, drafts[2])
    await heartbeat(platform, job, progress=steps[1])
    await heartbeat(platform, job, progress=steps[2])
    assert (await platform.job(job.id)).progress == steps[2]
    told = [event.data["fraction"] for event in await platform.events(job) if event.kind is EventKind.PROGRESS]
    assert told == [0.5, 0.6]
    await platform.finish(job, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST)
    again = await platform.claim()
    await heartbeat(platform, again, progress=steps[0])
    assert (await platform.job(job.id)).progress == steps[0], "a new attempt begins anew"


async def every_write_is_refused(platform: Platform, job: Job) -> None:
    """Tries all that attempt ``job.attempt`` may write, and checks that nothing was."""
    before = await platform.sql("select to_jsonb(jobs) from jobs where id = %s", job.id)
    num_events = len(await platform.events(job))

    async def check() -> None:
        async with platform.database.begin() as uow:
            await check_attempt(uow, job.id, job.attempt, worker=platform.worker)

    for write in (
        heartbeat(platform, job, progress=Progress(phase="x", fraction=1)),
        append(platform, job, log("from the dead")),
        platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INTERNAL),
        platform.finish(job, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST),
        check(),
    ):
        with pytest.raises(StaleAttempt):
            await write
    assert await platform.sql("select to_jsonb(jobs) from jobs where id = %s", job.id) == before
    assert len(await platform.events(job)) == num_events


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
    await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INTERNAL)
    await every_write_is_refused(platform, job)


async def test_workers_of_another_project_hold_nothing_here(platform: Platform, stranger: Platform) -> None:
    job = await platform.running(import_spec())
    with pytest.raises(StaleAttempt):
        await heartbeat(platform, job, worker=stranger.worker)
    await platform.submit(import_spec())
    assert await stranger.lease() is None


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
        platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INTERNAL),
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
