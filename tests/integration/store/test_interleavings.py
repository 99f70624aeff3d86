"""Release, cancel, finish and sweep of the same jobs at the same moment: whoever comes first, the story has one end."""

from __future__ import annotations

import asyncio

import pytest

from factories.releases import bound_queue, release, submit
from factories.store import Platform, import_spec, master_draft, merge_spec, merged_draft, quantize_spec, succeeded
from quantry_core.errors import StaleAttempt
from quantry_core.execution import Outcome
from quantry_core.jobs import FINAL_STATUSES, Job, JobReason, JobStatus, WaitingOn
from quantry_store.transactions import cancel_job, release_job

NUM_ROUNDS = 8


async def cancel(platform: Platform, job: Job) -> Job:
    async with platform.database.begin() as uow:
        return await cancel_job(uow, platform.admin, job.id)


async def try_release(platform: Platform, job: Job) -> Job | None:
    async with platform.database.begin() as uow:
        return await release_job(uow, job.id)


async def told(platform: Platform, job: Job) -> list[str]:
    """Returns the statuses that a job's events tell of; their numbers must have no hole."""
    events = await platform.events(job)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.data["status"] for event in events if event.kind == "state"]


async def no_need_is_open(platform: Platform) -> bool:
    return await platform.sql("select count(*) from job_needs where not is_settled") == [(0,)]


async def test_a_release_and_a_cancel_of_a_job_that_may_go_on(platform: Platform) -> None:
    for _ in range(NUM_ROUNDS):
        need = await platform.running(import_spec())
        job = await submit(platform, import_spec("other"), needs=[need.id])
        await platform.finish(need, **succeeded(master_draft()))
        await asyncio.gather(*(try_release(platform, job) for _ in range(3)), cancel(platform, job))
        ended = await platform.job(job.id)
        assert (ended.status, ended.waiting_on) == (JobStatus.CANCELLED, None)
        assert await told(platform, job) in (["waiting", "cancelled"], ["waiting", "queued", "cancelled"])
        assert await platform.lease() is None
        assert await no_need_is_open(platform)


@pytest.mark.parametrize("end", ["succeeded", "failed", "lost"])
async def test_a_need_ends_while_what_needs_it_is_cancelled_and_released(platform: Platform, end: str) -> None:
    await platform.dataset()
    for _ in range(NUM_ROUNDS):
        need = await platform.running(import_spec())
        job = await submit(platform, quantize_spec(f"output:{need.id}", "tales"))
        after = await submit(platform, import_spec("after"), needs=[job.id])
        report = {
            "succeeded": succeeded(master_draft()),
            "failed": {"outcome": Outcome.FAILED, "reason": JobReason.INVALID_INPUT, "message": "no"},
            "lost": {"outcome": Outcome.LOST, "reason": JobReason.WORKER_LOST, "message": "gone"},
        }[end]
        await asyncio.gather(platform.finish(need, **report), try_release(platform, job), cancel(platform, job), try_release(platform, job))
        await release(platform)
        ended, last = await platform.job(job.id), await platform.job(after.id)
        assert (ended.status, last.status) in {
            (JobStatus.CANCELLED, JobStatus.CANCELLED),
            (JobStatus.FAILED, JobStatus.FAILED),
        }
        assert (await told(platform, job))[-1] == ended.status
        assert sum(status in FINAL_STATUSES for status in await told(platform, job)) == 1
        assert await no_need_is_open(platform)
        if end == "lost":
            await cancel(platform, need)


async def test_a_need_is_finished_and_cancelled_at_once(platform: Platform) -> None:
    for _ in range(NUM_ROUNDS):
        need = await platform.running(import_spec())
        job = await submit(platform, import_spec("other"), needs=[need.id])
        await asyncio.gather(platform.finish(need, **succeeded(master_draft())), cancel(platform, need), release(platform))
        await release(platform)
        assert (await platform.job(need.id)).status is JobStatus.SUCCEEDED, "work that was done in time stands"
        assert (await platform.job(job.id)).status is JobStatus.QUEUED
        await cancel(platform, job)


async def test_a_cancel_of_a_running_need_reaches_all_that_wait_for_it(platform: Platform) -> None:
    await platform.dataset()
    need = await platform.running(import_spec())
    first = await submit(platform, quantize_spec(f"output:{need.id}", "tales"))
    second = await submit(platform, import_spec("second"), needs=[first.id])
    third = await submit(platform, import_spec("third"), needs=[second.id, need.id])
    await cancel(platform, need)
    assert await release(platform) == [], "the need still runs"
    await platform.finish(need, outcome=Outcome.CANCELLED, reason=JobReason.CANCELLED)
    await release(platform)
    for job, by in ((first, need), (second, first), (third, need)):
        ended = await platform.job(job.id)
        assert (ended.status, ended.reason, ended.waiting_on) == (JobStatus.CANCELLED, JobReason.CANCELLED, None)
        assert by.id in (ended.message or "")
    assert await no_need_is_open(platform)


async def test_a_lost_attempt_is_swept_and_finished_at_once(platform: Platform) -> None:
    for _ in range(NUM_ROUNDS):
        job = await platform.running(import_spec())
        await platform.seal(job, master_draft().files)
        await platform.sql("update jobs set lease_expires_at = now() - interval '1 second' where id = %s", job.id)
        finish = platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INVALID_INPUT)
        swept, again, late = await asyncio.gather(platform.sweep(), platform.sweep(), finish, return_exceptions=True)
        assert isinstance(late, StaleAttempt)
        assert not isinstance(swept, BaseException)
        assert not isinstance(again, BaseException)
        (lost,) = [*swept, *again]
        assert (lost.status, lost.num_lost_attempts) == (JobStatus.QUEUED, 1)
        await cancel(platform, job)


async def test_a_merge_looks_for_room_before_it_holds_its_model(platform: Platform) -> None:
    adapter = await platform.adapter(await platform.master())
    job = await platform.running(merge_spec(adapter.ref, quantize={"method": "rtn"}))
    await bound_queue(platform, 5)
    async with asyncio.timeout(30), platform.database.begin() as uow:
        await uow.waiting.has_room(platform.project_id)
        finishing = asyncio.create_task(platform.finish(job, **succeeded(merged_draft())))
        waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        while not await platform.sql(waiting):  # noqa: ASYNC110 - Postgres tells nobody that one waits
            await asyncio.sleep(0.01)
        # Raises where the finish holds the model already: whoever has the model and wants the project would wait for it, and it for them.
        assert await platform.sql("select name from models for no key update nowait") == [("bard",)]
    done = await finishing
    assert done.result is not None
    assert "quantize_job_id" in done.result.metrics


async def test_a_merge_that_failed_does_not_ask_for_room(platform: Platform) -> None:
    adapter = await platform.adapter(await platform.master())
    job = await platform.running(merge_spec(adapter.ref, quantize={"method": "rtn"}))
    await bound_queue(platform, 5)
    async with asyncio.timeout(30), platform.database.begin() as uow:
        assert await uow.waiting.lock_room(platform.project_id) == 5
        done = await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INVALID_INPUT)
    assert done.status is JobStatus.FAILED


async def test_a_place_in_the_queue_is_given_once_while_jobs_are_cancelled(platform: Platform) -> None:
    await bound_queue(platform, 1)
    queued = await platform.submit(import_spec())
    waiting = [await submit(platform, import_spec()) for _ in range(6)]
    assert {job.waiting_on for job in waiting} == {WaitingOn.LIMIT}
    await asyncio.gather(cancel(platform, queued), *(try_release(platform, job) for job in waiting), cancel(platform, waiting[0]))
    await release(platform)
    statuses = [(await platform.job(job.id)).status for job in waiting]
    assert statuses.count(JobStatus.QUEUED) == 1
    assert statuses.count(JobStatus.WAITING) == 4
    assert statuses[0] is JobStatus.CANCELLED
