"""What becomes of an attempt that failed: tried again by reason, poison after three lost ones, never against a cancel."""

from __future__ import annotations

from datetime import timedelta

import pytest

from factories.store import ALREADY_EXPIRED_S, GATE_PASSED, Platform, even_draw, import_spec, master_draft, succeeded
from quantry_core.errors import InvalidInput
from quantry_core.execution import Outcome
from quantry_core.jobs import (
    MAX_LOST_ATTEMPTS,
    RETRIES,
    EvaluateSpec,
    EventKind,
    Job,
    JobReason,
    JobStatus,
    WaitingOn,
    retry_delay_s,
)
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_store.transactions import cancel_job

REPORTED = [
    reason for reason in JobReason if reason not in {JobReason.COMPLETED, JobReason.CANCELLED, JobReason.WORKER_LOST, JobReason.POISON}
]
"""Reasons that a worker may give for a failure."""


async def fail(platform: Platform, job: Job, reason: JobReason) -> Job:
    return await platform.finish(job, outcome=Outcome.FAILED, reason=reason, message=f"{reason} it was", seconds=3.0)


async def come_due(platform: Platform, job: Job) -> Job:
    """Returns the next attempt of a job that waited: the release step puts it into its queue when it is due."""
    async with platform.database.begin() as uow:
        await uow.jobs.move(await uow.jobs.lock(platform.project_id, job.id), JobStatus.QUEUED)
    return await platform.claim()


async def states(platform: Platform, job: Job) -> list[tuple[str, str | None, str | None]]:
    events = [event.data for event in await platform.events(job) if event.kind is EventKind.STATE]
    return [(event["status"], event["reason"], event["message"]) for event in events]


@pytest.mark.parametrize("reason", REPORTED)
async def test_failures_are_tried_again_as_the_table_says(platform: Platform, reason: JobReason) -> None:
    job = await platform.running(import_spec())
    max_retries = RETRIES[reason].max_retries
    for num_retries in range(max_retries):
        put_back = await fail(platform, job, reason)
        assert (put_back.status, put_back.reason, put_back.waiting_on) == (JobStatus.WAITING, reason, WaitingOn.TIME)
        assert (put_back.message, put_back.retries, put_back.num_lost_attempts) == (f"{reason} it was", {reason: num_retries + 1}, 0)
        assert (put_back.result, put_back.finished_at, put_back.worker_id, put_back.progress) == (None, None, None, None)
        ((told_at,),) = await platform.sql("select max(created_at) from job_events")
        delay_s = retry_delay_s(reason, num_retries, even_draw())
        assert put_back.not_before == told_at + timedelta(seconds=delay_s or 0)
        assert await platform.lease() is None, "not before its time"
        job = await come_due(platform, job)
        assert job.attempt == num_retries + 2
    ended = await fail(platform, job, reason)
    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, reason, max_retries + 1)
    assert ended.result is not None
    assert ended.result.seconds == 3.0
    told = await states(platform, job)
    assert [state for state in told if state[1] is not None] == [
        *[("waiting", reason, f"{reason} it was")] * max_retries,
        ("failed", reason, f"{reason} it was"),
    ]


async def test_each_reason_has_its_own_count(platform: Platform) -> None:
    job = await platform.running(import_spec())
    story = [JobReason.OUT_OF_MEMORY, JobReason.INTERNAL, JobReason.OUT_OF_MEMORY]
    for reason in story:
        await fail(platform, job, reason)
        job = await come_due(platform, job)
    assert job.retries == {JobReason.OUT_OF_MEMORY: 2, JobReason.INTERNAL: 1}
    await platform.finish(job, outcome=Outcome.LOST, reason=JobReason.WORKER_LOST)
    job = await platform.claim()
    assert (job.retries[JobReason.WORKER_LOST], job.num_lost_attempts) == (1, 1)
    assert (await fail(platform, job, JobReason.INTERNAL)).status is JobStatus.FAILED


async def test_job_that_was_tried_again_may_succeed(platform: Platform) -> None:
    job = await platform.running(import_spec())
    await fail(platform, job, JobReason.OUT_OF_MEMORY)
    done = await platform.finish(await come_due(platform, job), **succeeded(master_draft()))
    assert (done.status, done.reason, done.message, done.retries) == (
        JobStatus.SUCCEEDED,
        JobReason.COMPLETED,
        None,
        {JobReason.OUT_OF_MEMORY: 1},
    )


async def test_attempt_that_is_tried_again_leaves_no_evidence(platform: Platform) -> None:
    await platform.master()
    await platform.dataset()
    job = await platform.running(EvaluateSpec(version="bard", corpora=["tales"]))
    half = EvidenceDraft(kind=EvidenceKind.EVALUATION, name="tales", verdict=Verdict.INCONCLUSIVE)
    put_back = await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INTERNAL, evidence=[half])
    assert put_back.status is JobStatus.WAITING
    assert await platform.sql("select count(*) from evidence") == [(0,)]


@pytest.mark.parametrize("how", ["lease", "report", "in turn"])
async def test_poison_after_exactly_three_lost_attempts(platform: Platform, how: str) -> None:
    job = await platform.running(import_spec(), lease_s=ALREADY_EXPIRED_S if how == "lease" else 60)
    for num_lost in range(1, MAX_LOST_ATTEMPTS + 1):
        assert job.attempt == num_lost
        if how == "report" or (how == "in turn" and num_lost % 2):
            lost = await platform.finish(job, outcome=Outcome.LOST, reason=JobReason.WORKER_LOST, message="killed by SIGKILL")
        else:
            await platform.sql("update jobs set lease_expires_at = now() - interval '1 second'")
            (lost,) = await platform.sweep()
        assert lost.num_lost_attempts == num_lost
        if num_lost < MAX_LOST_ATTEMPTS:
            assert (lost.status, lost.reason, lost.retries) == (JobStatus.QUEUED, JobReason.WORKER_LOST, {JobReason.WORKER_LOST: num_lost})
            job = await platform.claim()
    assert (lost.status, lost.reason) == (JobStatus.FAILED, JobReason.POISON)
    assert "3 attempts were lost" in (lost.message or "")
    assert await platform.lease() is None


async def test_other_failures_make_no_poison(platform: Platform) -> None:
    job = await platform.running(import_spec())
    for reason in (JobReason.OUT_OF_MEMORY, JobReason.OUT_OF_MEMORY, JobReason.INTERNAL):
        await fail(platform, job, reason)
        job = await come_due(platform, job)
    lost = await platform.finish(job, outcome=Outcome.LOST, reason=JobReason.WORKER_LOST)
    assert (lost.status, lost.num_lost_attempts, lost.attempt) == (JobStatus.QUEUED, 1, 4)


async def test_released_attempt_counts_for_nothing(platform: Platform) -> None:
    job = await platform.running(import_spec())
    for attempt in range(2, 7):
        released = await platform.finish(job, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST, message="shutting down")
        assert (released.status, released.retries, released.num_lost_attempts) == (JobStatus.QUEUED, {}, 0)
        job = await platform.claim()
        assert job.attempt == attempt


@pytest.mark.parametrize("reason", [reason for reason in REPORTED if RETRIES[reason].max_retries])
async def test_cancel_wins_over_a_retry(platform: Platform, reason: JobReason) -> None:
    job = await platform.running(import_spec())
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, job.id)
    ended = await fail(platform, job, reason)
    assert (ended.status, ended.reason, ended.retries) == (JobStatus.CANCELLED, JobReason.CANCELLED, {})


async def test_job_that_waits_for_its_backoff_is_cancelled_at_once(platform: Platform) -> None:
    job = await platform.running(import_spec())
    await fail(platform, job, JobReason.OUT_OF_MEMORY)
    async with platform.database.begin() as uow:
        cancelled = await cancel_job(uow, platform.admin, job.id)
    assert (cancelled.status, cancelled.waiting_on) == (JobStatus.CANCELLED, None)


@pytest.mark.parametrize("reason", [JobReason.WORKER_LOST, JobReason.POISON, JobReason.COMPLETED, JobReason.CANCELLED])
async def test_reasons_that_no_worker_may_give(platform: Platform, reason: JobReason) -> None:
    job = await platform.running(import_spec())
    with pytest.raises(InvalidInput, match="cannot have the reason"):
        await fail(platform, job, reason)
    assert (await platform.job(job.id)).status is JobStatus.RUNNING


async def test_gate_evidence_alone_is_not_kept(platform: Platform) -> None:
    job = await platform.running(import_spec())
    with pytest.raises(InvalidInput, match="no version that it is about"):
        await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INTERNAL, evidence=GATE_PASSED)
