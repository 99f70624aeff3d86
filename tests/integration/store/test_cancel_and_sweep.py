"""Cancelling, and what the sweep makes of leases that ran out."""

from __future__ import annotations

import asyncio

import pytest

from factories.store import ALREADY_EXPIRED_S, Platform, import_spec
from quantry_core.errors import UnknownJob
from quantry_core.execution import HeartbeatRequest
from quantry_core.jobs import EventKind, Job, JobReason, JobStatus
from quantry_store.transactions import begin_rollout, cancel_job, renew_lease


async def cancel(platform: Platform, job_id: str) -> Job:
    async with platform.database.begin() as uow:
        return await cancel_job(uow, platform.admin, job_id)


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.WAITING])
async def test_job_that_has_not_begun_is_cancelled_at_once(platform: Platform, status: JobStatus) -> None:
    job = await platform.submit(import_spec())
    await platform.sql("update jobs set status = %s", status.value)
    cancelled = await cancel(platform, job.id)
    assert (cancelled.status, cancelled.reason, cancelled.cancel_requested) == (JobStatus.CANCELLED, JobReason.CANCELLED, True)
    assert cancelled.finished_at is not None
    assert await platform.lease() is None
    assert (await platform.actions())[-2:] == ["job.submit", "job.cancel"]


async def test_running_job_gets_a_flag_that_its_worker_sees(platform: Platform) -> None:
    job = await platform.running(import_spec())
    flagged = await cancel(platform, job.id)
    assert (flagged.status, flagged.cancel_requested) == (JobStatus.RUNNING, True)
    async with platform.database.begin() as uow:
        assert (await renew_lease(uow, job.id, HeartbeatRequest(attempt=1), 60)).cancel_requested
    num_events, actions = len(await platform.events(job)), await platform.actions()
    assert await cancel(platform, job.id) == flagged, "asking twice changes nothing"
    assert len(await platform.events(job)) == num_events
    assert await platform.actions() == actions


async def test_ended_job_is_returned_unchanged(platform: Platform) -> None:
    job = await platform.submit(import_spec())
    cancelled = await cancel(platform, job.id)
    actions = await platform.actions()
    assert await cancel(platform, job.id) == cancelled
    assert await platform.actions() == actions


async def test_deploy_job_only_gets_the_flag(platform: Platform) -> None:
    rollout = await platform.rollout(await platform.master())
    flagged = await cancel(platform, rollout.job_id or "")
    assert (flagged.status, flagged.cancel_requested) == (JobStatus.QUEUED, True)


async def test_unknown_job_cannot_be_cancelled(platform: Platform) -> None:
    for job_id in ("job_" + "0" * 32, "nonsense", "job_\x00"):
        with pytest.raises(UnknownJob):
            await cancel(platform, job_id)


async def test_claim_and_cancel_at_once_end_in_one_story(platform: Platform) -> None:
    job = await platform.submit(import_spec())
    cancelled, lease = await asyncio.gather(cancel(platform, job.id), platform.lease())
    now = await platform.job(job.id)
    if lease is None:
        assert now.status is JobStatus.CANCELLED
    else:
        assert (now.status, now.cancel_requested, cancelled.cancel_requested) == (JobStatus.RUNNING, True, True)


async def test_lost_job_is_queued_again_and_poison_after_three(platform: Platform) -> None:
    job = await platform.running(import_spec(), lease_s=ALREADY_EXPIRED_S)
    for lost in (1, 2):
        (swept,) = await platform.sweep()
        assert (swept.id, swept.status, swept.reason) == (job.id, JobStatus.QUEUED, JobReason.WORKER_LOST)
        assert (swept.num_lost_attempts, swept.progress) == (lost, None)
        again = await platform.claim(lease_s=ALREADY_EXPIRED_S)
        assert (again.id, again.attempt) == (job.id, lost + 1)
    (swept,) = await platform.sweep()
    assert (swept.status, swept.reason, swept.num_lost_attempts) == (JobStatus.FAILED, JobReason.POISON, 3)
    assert swept.finished_at is not None
    assert await platform.lease() is None
    states = [event.data["status"] for event in await platform.events(job) if event.kind is EventKind.STATE]
    assert states == ["queued", "running", "queued", "running", "queued", "running", "failed"]


async def test_sweep_leaves_everything_else_alone(platform: Platform) -> None:
    rollout = await platform.rollout(await platform.master())
    async with platform.database.begin() as uow:
        await begin_rollout(uow, rollout.id)
    held = await platform.running(import_spec())
    queued = await platform.submit(import_spec())
    assert await platform.sweep() == []
    assert (await platform.job(held.id)).status is JobStatus.RUNNING
    assert (await platform.job(queued.id)).status is JobStatus.QUEUED
    assert (await platform.job(rollout.job_id or "")).status is JobStatus.RUNNING, "a deploy job runs without a lease"


async def test_lost_job_that_was_to_be_cancelled_is(platform: Platform) -> None:
    job = await platform.running(import_spec())
    await cancel(platform, job.id)
    await platform.sql("update jobs set lease_expires_at = now() - interval '1 second'")
    (swept,) = await platform.sweep()
    assert (swept.status, swept.reason) == (JobStatus.CANCELLED, JobReason.CANCELLED)


async def test_sweeps_side_by_side_lose_an_attempt_once(platform: Platform) -> None:
    jobs = [await platform.running(import_spec(), lease_s=ALREADY_EXPIRED_S) for _ in range(4)]
    swept = [job for part in await asyncio.gather(*(platform.sweep() for _ in range(4))) for job in part]
    assert sorted(job.id for job in swept) == sorted(job.id for job in jobs)
    assert {job.num_lost_attempts for job in swept} == {1}


async def test_unreadable_job_of_a_lost_worker_ends_as_failed(platform: Platform) -> None:
    job = await platform.running(import_spec(), lease_s=ALREADY_EXPIRED_S)
    await platform.sql("update jobs set spec = '{}' where id = %s", job.id)
    assert await platform.sweep() == []
    assert await platform.sql("select status, reason, attempt, lease_expires_at from jobs") == [("failed", "internal", 1, None)]
    assert [event.data["status"] for event in await platform.events(job)] == ["queued", "running", "failed"]
