"""Waiting jobs: what each waits for, when it goes on, and how it ends with what it needs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from factories.releases import bound_queue, release, retry, say_hello, submit
from factories.store import GATE_FAILED, GATE_PASSED, Platform, import_spec, master_draft, quantize_spec, quantized_draft, succeeded
from quantry_core.errors import Conflict, RolloutInProgress, UnknownJob, UnknownVersion, VersionProtected
from quantry_core.execution import Outcome
from quantry_core.jobs import DeploySpec, EvaluateSpec, Job, JobReason, JobStatus, WaitingOn
from quantry_core.rollouts import RolloutState
from quantry_core.versions import VersionState
from quantry_store.transactions import (
    begin_rollout,
    cancel_job,
    delete_version,
    promote_rollout,
    releasable_jobs,
    release_job,
    stop_deployment,
)

SOON = timedelta(hours=1)


async def fail(platform: Platform, job: Job) -> Job:
    return await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.INVALID_INPUT, message="no such thing")


async def cancel(platform: Platform, job: Job) -> Job:
    async with platform.database.begin() as uow:
        return await cancel_job(uow, platform.admin, job.id)


async def test_a_job_waits_until_all_that_it_needs_has_succeeded(platform: Platform) -> None:
    fetch = await platform.running(import_spec())
    other = await platform.running(import_spec("other"))
    await platform.dataset()
    shrink = await submit(platform, quantize_spec(f"output:{fetch.id}", "tales"), needs=[other.id])
    assert (shrink.status, shrink.waiting_on, shrink.needs) == (JobStatus.WAITING, WaitingOn.NEEDS, [other.id, fetch.id])
    assert await platform.lease() is None
    assert await release(platform) == []
    master = await platform.made(fetch, master_draft())
    await release(platform)
    waiting = await platform.job(shrink.id)
    assert (waiting.status, waiting.inputs[0].version_id) == (JobStatus.WAITING, master.id)
    await platform.made(other, master_draft("other", "other"))
    (released,) = await release(platform)
    assert (released.id, released.status, released.waiting_on) == (shrink.id, JobStatus.QUEUED, None)
    assert [event.data["status"] for event in await platform.events(shrink)] == ["waiting", "queued"]
    lease = await platform.lease()
    assert lease is not None
    assert (lease.job.id, lease.inputs[0].id) == (shrink.id, master.id)


async def test_a_version_that_a_waiting_job_was_given_stays(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    shrink = await platform.running(quantize_spec(master.id, tales.id))
    measure = await submit(platform, EvaluateSpec(version=f"output:{shrink.id}", corpora=["tales"]))
    quantized = await platform.made(shrink, quantized_draft())
    async with platform.database.begin() as uow:
        with pytest.raises(VersionProtected, match=measure.id):
            await delete_version(uow, quantized.id, who=platform.admin)


async def test_a_failed_need_fails_what_needs_it_and_so_on(platform: Platform) -> None:
    await platform.dataset()
    fetch = await platform.running(import_spec())
    shrink = await submit(platform, quantize_spec(f"output:{fetch.id}", "tales"))
    measure = await submit(platform, EvaluateSpec(version=f"output:{shrink.id}", corpora=["tales"]))
    bystander = await platform.submit(import_spec())
    await fail(platform, fetch)
    assert [job.id for job in await release(platform)] == [shrink.id, measure.id]
    for job, need in ((shrink, fetch), (measure, shrink)):
        ended = await platform.job(job.id)
        assert (ended.status, ended.reason) == (JobStatus.FAILED, JobReason.DEPENDENCY_FAILED)
        assert need.id in (ended.message or "")
        assert ended.finished_at is not None
    assert (await platform.job(bystander.id)).status is JobStatus.QUEUED


async def test_one_failed_need_is_enough_while_others_go_on(platform: Platform) -> None:
    slow = await platform.running(import_spec())
    broken = await platform.running(import_spec("broken"))
    job = await submit(platform, import_spec("third"), needs=[slow.id, broken.id])
    await fail(platform, broken)
    await release(platform)
    assert (await platform.job(job.id)).reason is JobReason.DEPENDENCY_FAILED
    await platform.made(slow, master_draft())
    assert await release(platform) == []


async def test_a_need_that_failed_its_gate_is_a_failed_need(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    shrink = await platform.running(quantize_spec(master.id, tales.id))
    measure = await submit(platform, EvaluateSpec(version=f"output:{shrink.id}", corpora=["tales"]))
    draft = quantized_draft(state=VersionState.QUARANTINED)
    await platform.finish(shrink, outcome=Outcome.FAILED, reason=JobReason.GATE_FAILED, version=draft, evidence=[GATE_FAILED])
    await release(platform)
    assert (await platform.job(measure.id)).reason is JobReason.DEPENDENCY_FAILED


async def test_a_cancelled_need_cancels_what_needs_it_and_so_on(platform: Platform) -> None:
    await platform.dataset()
    fetch = await platform.submit(import_spec())
    shrink = await submit(platform, quantize_spec(f"output:{fetch.id}", "tales"))
    deploy = await submit(platform, DeploySpec(deployment="chat", version=f"output:{shrink.id}"))
    await cancel(platform, fetch)
    await release(platform)
    for job in (shrink, deploy):
        ended = await platform.job(job.id)
        assert (ended.status, ended.reason) == (JobStatus.CANCELLED, JobReason.CANCELLED)
    assert await platform.sql("select count(*) from releases") == [(0,)]


@pytest.mark.parametrize("kind", ["import", "deploy"])
async def test_a_waiting_job_is_cancelled_at_once_and_looked_at_no_more(platform: Platform, kind: str) -> None:
    master = await platform.master()
    fetch = await platform.running(import_spec())
    spec = import_spec() if kind == "import" else DeploySpec(deployment="chat", version=master.id)
    job = await submit(platform, spec, needs=[fetch.id])
    assert (await cancel(platform, job)).status is JobStatus.CANCELLED
    assert await platform.sql("select count(*) from job_needs where not is_settled") == [(0,)]
    await fail(platform, fetch)
    assert await release(platform) == []


async def test_a_job_waits_for_its_time(platform: Platform) -> None:
    start = datetime.now(UTC) + SOON
    job = await submit(platform, import_spec(), not_before=start)
    assert (job.status, job.waiting_on, job.not_before) == (JobStatus.WAITING, WaitingOn.TIME, start)
    assert await release(platform) == []
    assert await platform.lease() is None
    await platform.sql("update jobs set not_before = now() - interval '1 second' where id = %s", job.id)
    assert [(moved.id, moved.status) for moved in await release(platform)] == [(job.id, JobStatus.QUEUED)]


async def test_needs_come_before_the_time(platform: Platform) -> None:
    fetch = await platform.running(import_spec())
    job = await submit(platform, import_spec(), needs=[fetch.id], not_before=datetime.now(UTC) + SOON)
    assert job.waiting_on is WaitingOn.NEEDS
    await platform.made(fetch, master_draft())
    await release(platform)
    assert (await platform.job(job.id)).waiting_on is WaitingOn.TIME


async def test_the_first_in_line_gets_the_place_that_is_free(platform: Platform, stranger: Platform) -> None:
    await bound_queue(platform, 1)
    first = await platform.submit(import_spec())
    late, early = [await submit(platform, import_spec(), priority=priority) for priority in (7, 3)]
    others = await stranger.submit(import_spec())
    assert (others.status, late.waiting_on, early.waiting_on) == (JobStatus.QUEUED, WaitingOn.LIMIT, WaitingOn.LIMIT)
    assert await release(platform) == []
    await cancel(platform, first)
    assert [job.id for job in await release(platform)] == [early.id]
    await bound_queue(platform, None)
    assert [job.id for job in await release(platform)] == [late.id]


async def test_those_blocked_on_a_limit_keep_back_nobody(platform: Platform, stranger: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantry_store.repositories.waiting.MAX_JOBS_PER_RELEASE", 2)
    await bound_queue(platform, 1)
    for _ in range(5):
        await submit(platform, import_spec(), priority=0)
    fetch = await submit(stranger, import_spec())
    job = await submit(stranger, import_spec(), needs=[fetch.id], priority=9)
    await cancel(stranger, fetch)
    assert [moved.id for moved in await release(platform)] == [job.id]


async def test_a_bound_holds_against_releases_at_once(platform: Platform) -> None:
    await bound_queue(platform, 1)
    jobs = [await platform.submit(import_spec()) for _ in range(6)]
    await bound_queue(platform, 3)

    async def release_one(job: Job) -> None:
        async with platform.database.begin() as uow:
            await release_job(uow, job.id)

    await asyncio.gather(*(release_one(job) for job in jobs for _ in range(3)))
    assert await platform.sql("select count(*) from jobs where status = 'queued'") == [(3,)]


async def test_one_that_another_replica_is_at_is_skipped(platform: Platform) -> None:
    fetch = await platform.running(import_spec())
    job = await submit(platform, import_spec(), needs=[fetch.id])
    await platform.made(fetch, master_draft())
    async with platform.database.begin() as first, platform.database.begin() as second:
        assert await releasable_jobs(first) == await releasable_jobs(second) == [job.id]
        released = await release_job(first, job.id)
        assert released is not None
        assert await release_job(second, job.id) is None
    async with platform.database.begin() as uow:
        assert await release_job(uow, job.id) is None


async def test_a_version_made_meanwhile_is_taken_at_release(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    await say_hello(platform)
    first = await platform.running(quantize_spec(master.id, tales.id))
    again = await submit(platform, quantize_spec(master.id, tales.id), needs=[first.id])
    forced = await submit(platform, quantize_spec(master.id, tales.id), needs=[first.id], force=True)
    quantized = await platform.made(first, quantized_draft())
    await release(platform)
    taken = await platform.job(again.id)
    assert taken.result is not None
    assert (taken.status, taken.result.version_id, taken.result.reused) == (JobStatus.SUCCEEDED, quantized.id, True)
    assert (await platform.job(forced.id)).status is JobStatus.QUEUED


async def test_what_is_gone_at_release_fails_the_job_with_a_sentence(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    shrink = await platform.running(quantize_spec(master.id, tales.id))
    deploy = await submit(platform, DeploySpec(deployment="chat", version=f"output:{shrink.id}"))
    quantized = await platform.made(shrink, quantized_draft())
    await platform.sql("update versions set state = 'archived' where id = %s", quantized.id)
    await release(platform)
    ended = await platform.job(deploy.id)
    assert (ended.status, ended.reason) == (JobStatus.FAILED, JobReason.INVALID_INPUT)
    assert "bard@2 is archived; only a ready version can be used here" in (ended.message or "")


async def test_an_unreadable_job_ends_and_keeps_back_nobody(platform: Platform) -> None:
    fetch = await platform.running(import_spec())
    unreadable, fine = [await submit(platform, import_spec(), needs=[fetch.id]) for _ in range(2)]
    await platform.sql("update jobs set spec = %s where id = %s", '{"type": "import"}', unreadable.id)
    await platform.made(fetch, master_draft())
    assert [job.id for job in await release(platform)] == [fine.id]
    rows = await platform.sql("select status, reason from jobs where id = %s", unreadable.id)
    assert rows == [("failed", "internal")]


async def test_jobs_of_an_unknown_type_take_no_place_from_others(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantry_store.repositories.waiting.MAX_JOBS_PER_RELEASE", 1)
    fetch = await platform.running(import_spec())
    unknown, fine = [await submit(platform, import_spec(), needs=[fetch.id]) for _ in range(2)]
    await platform.sql("update jobs set type = 'distill' where id = %s", unknown.id)
    await platform.made(fetch, master_draft())
    assert [job.id for job in await release(platform)] == [fine.id]


async def test_a_deploy_gets_its_rollout_at_release_and_waits_for_another(platform: Platform) -> None:
    fetch = await platform.running(import_spec())
    first, second = [await submit(platform, DeploySpec(deployment="chat", version=f"output:{fetch.id}")) for _ in range(2)]
    assert await platform.sql("select count(*) from deployments") == [(0,)]
    master = await platform.made(fetch, master_draft())
    moved = await release(platform)
    assert [(job.id, job.status, job.waiting_on) for job in moved] == [
        (first.id, JobStatus.QUEUED, None),
        (second.id, JobStatus.WAITING, WaitingOn.ROLLOUT),
    ]
    rollout = (await platform.deployment()).active_rollout
    assert rollout is not None
    assert (rollout.job_id, rollout.state) == (first.id, RolloutState.PENDING)
    with pytest.raises(RolloutInProgress):
        await platform.submit(DeploySpec(deployment="chat", version=master.id))
    assert await release(platform) == []
    for step in (begin_rollout, promote_rollout):
        async with platform.database.begin() as uow:
            await step(uow, rollout.id)
    assert [(job.id, job.status) for job in await release(platform)] == [(second.id, JobStatus.QUEUED)]
    following = (await platform.deployment()).active_rollout
    assert following is not None
    assert (following.job_id, following.from_release_id) == (second.id, rollout.to_release_id)


async def test_a_deploy_to_a_stopped_deployment_fails_at_release(platform: Platform) -> None:
    await platform.promoted(await platform.master())
    fetch = await platform.running(import_spec())
    deploy = await submit(platform, DeploySpec(deployment="chat", version="bard@1"), needs=[fetch.id])
    async with platform.database.begin() as uow:
        await stop_deployment(uow, platform.admin, "chat")
    await platform.made(fetch, master_draft(content="second"))
    await release(platform)
    ended = await platform.job(deploy.id)
    assert (ended.status, ended.reason) == (JobStatus.FAILED, JobReason.INVALID_INPUT)
    assert "start it before you deploy" in (ended.message or "")


async def test_a_retry_is_a_new_job_with_the_same_inputs(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    start = datetime.now(UTC) + SOON
    old = await submit(platform, quantize_spec("bard", "tales"), priority=2, labels={"team": "search"}, not_before=start)
    await cancel(platform, old)
    await platform.master(content="newer")
    await platform.dataset(content="newer")
    new = await retry(platform, old)
    assert new.id != old.id
    assert (new.status, new.retry_of, new.not_before, new.attempt) == (JobStatus.QUEUED, old.id, None, 0)
    same = {"spec", "inputs", "priority", "labels", "metadata", "limits", "force", "queue", "estimate"}
    assert new.model_dump(include=same) == old.model_dump(include=same)
    assert [item.version_id or item.dataset_id for item in new.inputs][:2] == [master.id, tales.id]
    assert (await platform.actions())[-1] == "job.retry"
    assert await platform.job(old.id) == await platform.job(old.id)


async def test_only_what_failed_or_was_cancelled_is_tried_again(platform: Platform, stranger: Platform) -> None:
    queued = await platform.submit(import_spec())
    with pytest.raises(Conflict, match="is queued"):
        await retry(platform, queued)
    done = await platform.claim()
    await platform.made(done, master_draft())
    with pytest.raises(Conflict, match="is succeeded"):
        await retry(platform, done)
    with pytest.raises(UnknownJob):
        await retry(stranger, done)


async def test_a_retry_wants_its_needs_met_and_its_inputs_there(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    shrink = await platform.running(quantize_spec(master.id, tales.id))
    measure = await submit(platform, EvaluateSpec(version=f"output:{shrink.id}", corpora=["tales"]))
    await fail(platform, shrink)
    await release(platform)
    with pytest.raises(Conflict, match=f"{shrink.id}.* is failed; retry that one first"):
        await retry(platform, measure)
    again = await retry(platform, shrink)
    await platform.claim()
    quantized = await platform.made(await platform.job(again.id), quantized_draft())
    lone = await submit(platform, EvaluateSpec(version=quantized.id, corpora=["tales"]))
    await cancel(platform, lone)
    async with platform.database.begin() as uow:
        await delete_version(uow, quantized.id, who=platform.admin)
    with pytest.raises(UnknownVersion):
        await retry(platform, lone)


async def test_a_retried_job_keeps_what_its_needs_made(platform: Platform) -> None:
    tales = await platform.dataset()
    fetch = await platform.running(import_spec())
    shrink = await submit(platform, quantize_spec(f"output:{fetch.id}", tales.id))
    master = await platform.made(fetch, master_draft())
    await cancel(platform, shrink)
    again = await retry(platform, shrink)
    assert (again.status, again.needs, again.inputs[0].version_id) == (JobStatus.QUEUED, [fetch.id], master.id)
    await platform.finish(await platform.claim(), **succeeded(quantized_draft(), evidence=GATE_PASSED))


async def test_a_retried_deploy_gets_a_rollout_of_its_own(platform: Platform) -> None:
    master = await platform.master()
    fetch = await platform.running(import_spec())
    deploy = await submit(platform, DeploySpec(deployment="chat", version=master.id), needs=[fetch.id])
    await cancel(platform, deploy)
    await platform.made(fetch, master_draft(content="second"))
    again = await retry(platform, deploy)
    rollout = (await platform.deployment()).active_rollout
    assert rollout is not None
    assert (again.status, rollout.job_id) == (JobStatus.QUEUED, again.id)
