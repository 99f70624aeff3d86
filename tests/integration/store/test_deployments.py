"""Rollouts move together with their jobs; gateways learn of what they must."""

from __future__ import annotations

import asyncio

import pytest

from factories.store import Platform, replica
from quantry_core.errors import IllegalTransition, InvalidName, NotFound, UnknownDeployment
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import Job, JobReason, JobStatus
from quantry_core.rollouts import Replica, ReplicaState, Rollout, RolloutReason, RolloutState
from quantry_core.routes import RouteSnapshot
from quantry_store.transactions import (
    DeploymentRecord,
    begin_rollout,
    cancel_job,
    delete_replica,
    fail_rollout,
    load_deployments,
    promote_rollout,
    resume_deployment,
    stop_deployment,
    upsert_replica,
)


async def begin(platform: Platform, rollout: Rollout) -> Rollout:
    async with platform.database.begin() as uow:
        return await begin_rollout(uow, rollout.id)


async def promote(platform: Platform, rollout: Rollout) -> Rollout:
    async with platform.database.begin() as uow:
        return await promote_rollout(uow, rollout.id)


REASONS = {
    JobReason.TIMED_OUT: RolloutReason.NOT_READY,
    JobReason.VERDICT_FAILED: RolloutReason.VERDICT_FAILED,
    JobReason.CANCELLED: RolloutReason.CANCELLED,
    JobReason.INTERNAL: RolloutReason.CRASH_LOOP,
}


async def fail(platform: Platform, rollout: Rollout, state: RolloutState, reason: JobReason) -> Rollout:
    async with platform.database.begin() as uow:
        return await fail_rollout(uow, rollout.id, state, REASONS[reason], reason, "so it was")


async def job_of(platform: Platform, rollout: Rollout) -> Job:
    assert rollout.job_id is not None
    return await platform.job(rollout.job_id)


async def write(platform: Platform, written: Replica) -> Replica:
    async with platform.database.begin() as uow:
        return await upsert_replica(uow, written)


async def records(platform: Platform) -> list[DeploymentRecord]:
    async with platform.database.begin() as uow:
        return await load_deployments(uow)


async def snapshot(platform: Platform) -> RouteSnapshot:
    async with platform.database.begin() as uow:
        return await uow.routes.snapshot()


async def test_rollout_from_pending_to_promoted(platform: Platform) -> None:
    master = await platform.master()
    rollout = await platform.rollout(master, ready_timeout_s=30)
    begun = await begin(platform, rollout)
    job = await job_of(platform, rollout)
    assert (begun.state, job.status, job.attempt) == (RolloutState.PROGRESSING, JobStatus.RUNNING, 1)
    assert begun.ready_deadline_at > rollout.ready_deadline_at, "the deadline counts from the beginning"
    revision = await platform.revision()
    promoted = await promote(platform, rollout)
    assert (promoted.state, promoted.finished_at is not None) == (RolloutState.PROMOTED, True)
    deployment = await platform.deployment()
    assert deployment.active_rollout is None
    assert deployment.current_release is not None
    assert (deployment.current_release.id, deployment.current_release.version_ref) == (rollout.to_release_id, "bard@1")
    job = await job_of(platform, rollout)
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, JobReason.COMPLETED)
    assert job.result is not None
    assert (job.result.deployment, job.result.release_id, job.result.version_id) == ("chat", rollout.to_release_id, master.id)
    assert job.result.seconds is not None
    assert job.result.seconds >= 0
    assert await platform.revision() == revision + 1
    async with platform.database.begin() as uow:
        entry = (await uow.audit.list(platform.project_id, limit=1)).data[0]
    assert (entry.action, entry.noun_id, entry.key_id, entry.role) == ("rollout.promote", rollout.id, None, None)


async def test_next_rollout_leads_from_the_current_release(platform: Platform) -> None:
    master = await platform.master()
    first = await platform.promoted(master)
    second = await platform.rollout(master)
    assert (second.from_release_id, second.to_release_id != first.to_release_id) == (first.to_release_id, True)
    (record,) = await records(platform)
    assert set(record.releases) == {first.to_release_id, second.to_release_id}
    assert sorted(release.number for release in record.releases.values()) == [1, 2]
    async with platform.database.begin() as uow:
        page = await uow.rollouts.list(platform.project_id, await uow.deployments.get(platform.project_id, "chat"))
    assert [item.id for item in page.data] == [second.id, first.id]


@pytest.mark.parametrize(
    ("state", "reason", "status"),
    [
        (RolloutState.ROLLED_BACK, JobReason.TIMED_OUT, JobStatus.FAILED),
        (RolloutState.ROLLED_BACK, JobReason.VERDICT_FAILED, JobStatus.FAILED),
        (RolloutState.ABORTED, JobReason.CANCELLED, JobStatus.CANCELLED),
        (RolloutState.ABORTED, JobReason.INTERNAL, JobStatus.FAILED),
    ],
)
async def test_failed_rollout_leaves_what_was_served(platform: Platform, state: RolloutState, reason: JobReason, status: JobStatus) -> None:
    master = await platform.master()
    first = await platform.promoted(master)
    rollout = await platform.rollout(master)
    await begin(platform, rollout)
    revision = await platform.revision()
    failed = await fail(platform, rollout, state, reason)
    assert (failed.state, failed.reason, failed.message) == (state, REASONS[reason], "so it was")
    assert failed.finished_at is not None
    job = await job_of(platform, rollout)
    assert (job.status, job.reason, job.message) == (status, reason, "so it was")
    deployment = await platform.deployment()
    assert deployment.current_release is not None
    assert (deployment.current_release.id, deployment.active_rollout) == (first.to_release_id, None)
    assert await platform.revision() == revision + 1
    assert (await platform.rollout(master)).state is RolloutState.PENDING, "the next one may come"


async def test_pending_rollout_can_only_be_aborted_as_cancelled(platform: Platform) -> None:
    rollout = await platform.rollout(await platform.master())
    with pytest.raises(IllegalTransition):
        await fail(platform, rollout, RolloutState.ROLLED_BACK, JobReason.TIMED_OUT)
    with pytest.raises(IllegalTransition):
        await fail(platform, rollout, RolloutState.ABORTED, JobReason.TIMED_OUT)
    with pytest.raises(IllegalTransition):
        await promote(platform, rollout)
    assert (await platform.deployment()).active_rollout == rollout, "nothing of it was written"
    await fail(platform, rollout, RolloutState.ABORTED, JobReason.CANCELLED)
    assert (await job_of(platform, rollout)).status is JobStatus.CANCELLED


async def test_rollout_ends_once(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    for again in (begin(platform, rollout), promote(platform, rollout), fail(platform, rollout, RolloutState.ABORTED, JobReason.CANCELLED)):
        with pytest.raises(IllegalTransition):
            await again
    with pytest.raises(NotFound):
        await begin(platform, rollout.model_copy(update={"id": "rol_" + "0" * 32}))


async def test_controller_sees_the_cancel_flag_of_every_deployment(platform: Platform, stranger: Platform) -> None:
    master = await platform.master()
    rollout = await platform.rollout(master)
    await platform.rollout(master, "other")
    await stranger.rollout(await stranger.master(), "theirs")
    async with platform.database.begin() as uow:
        await cancel_job(uow, platform.admin, rollout.job_id or "")
    flags = {record.deployment.name: record.cancel_requested for record in await records(platform)}
    assert flags == {"chat": True, "other": False, "theirs": False}


async def test_controller_that_looks_stops_nobody_and_sees_one_moment(platform: Platform) -> None:
    rollout = await platform.rollout(await platform.master())
    await begin(platform, rollout)
    async with platform.database.begin() as looking:
        (before,) = await load_deployments(looking)
        async with asyncio.timeout(10):
            await promote(platform, rollout)
        async with asyncio.timeout(10), platform.database.begin() as uow:
            await stop_deployment(uow, platform.admin, "chat")
        assert await looking.deployments.of_every_project() == [before.deployment], "half a promotion would drain what it brought up"
    async with platform.database.begin() as uow:
        await uow.deployments.lock(platform.project_id, "chat")
        async with asyncio.timeout(10):
            (after,) = await records(platform)
    assert (after.deployment.is_stopped, after.deployment.active_rollout) == (True, None)


async def test_routes_follow_ready_replicas_of_the_current_release(platform: Platform) -> None:
    master = await platform.master()
    rollout = await platform.rollout(master)
    first = await write(platform, replica(rollout.to_release_id, ordinal=0))
    assert first.updated_at.year > 2020, "the database's clock, not the caller's"
    (route,) = (await snapshot(platform)).routes
    assert (route.deployment, route.project_id, route.replicas) == ("chat", platform.project_id, []), "not promoted yet"
    await begin(platform, rollout)
    await promote(platform, rollout)
    second = await write(platform, replica(rollout.to_release_id, ReplicaState.STARTING, ordinal=1, url="http://127.0.0.1:9001"))
    (route,) = (await snapshot(platform)).routes
    assert [(item.id, item.url) for item in route.replicas] == [(first.id, first.url)]
    await write(platform, second.model_copy(update={"state": ReplicaState.READY}))
    (route,) = (await snapshot(platform)).routes
    assert [item.id for item in route.replicas] == [first.id, second.id]
    await write(platform, first.model_copy(update={"state": ReplicaState.UNHEALTHY}))
    (route,) = (await snapshot(platform)).routes
    assert [item.id for item in route.replicas] == [second.id]
    assert (await platform.deployment()).num_ready == 1


async def test_revision_counts_only_what_gateways_must_know(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    written = await write(platform, replica(rollout.to_release_id, ReplicaState.STARTING, url=None))
    quiet = await platform.revision()
    await write(platform, written.model_copy(update={"pid": 7, "message": "loading"}))
    await write(platform, written.model_copy(update={"url": "http://127.0.0.1:9000"}))
    assert await platform.revision() == quiet, "it takes no traffic yet"
    ready = written.model_copy(update={"state": ReplicaState.READY, "url": "http://127.0.0.1:9000"})
    for count, change in enumerate((ready, ready.model_copy(update={"url": "http://127.0.0.1:9001"}), written), start=1):
        await write(platform, change)
        assert await platform.revision() == quiet + count
        await write(platform, change.model_copy(update={"message": "the same to gateways"}))
        assert await platform.revision() == quiet + count
    async with platform.database.begin() as uow:
        await delete_replica(uow, written.id)
        await delete_replica(uow, "rep_none")
    assert await platform.revision() == quiet + 3
    assert (await platform.deployment()).replicas == []


async def test_rolled_back_change_does_not_count(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    before = await snapshot(platform)

    async def broken() -> None:
        async with platform.database.begin() as uow:
            await upsert_replica(uow, replica(rollout.to_release_id))
            await uow.deployments.get(platform.project_id, "talk")

    with pytest.raises(UnknownDeployment):
        await broken()
    assert await snapshot(platform) == before


async def test_replica_of_an_unknown_release_is_refused(platform: Platform) -> None:
    with pytest.raises(NotFound):
        await write(platform, replica(new_id(IdPrefix.RELEASE)))


async def test_stop_and_start(platform: Platform) -> None:
    rollout = await platform.promoted(await platform.master())
    await write(platform, replica(rollout.to_release_id))
    revision, num_actions = await platform.revision(), len(await platform.actions())
    for _ in range(2):
        async with platform.database.begin() as uow:
            assert (await stop_deployment(uow, platform.admin, "chat")).is_stopped
    assert (await snapshot(platform)).routes[0].replicas == []
    for _ in range(2):
        async with platform.database.begin() as uow:
            assert not (await resume_deployment(uow, platform.admin, "chat")).is_stopped
    assert len((await snapshot(platform)).routes[0].replicas) == 1
    assert await platform.revision() == revision + 2
    assert (await platform.actions())[num_actions:] == ["deployment.stop", "deployment.start"]


async def test_unknown_deployments(platform: Platform) -> None:
    await platform.rollout(await platform.master())
    async with platform.database.begin() as uow:
        with pytest.raises(UnknownDeployment, match="no deployment 'talk'; deployments here: chat"):
            await uow.deployments.get(platform.project_id, "talk")
        with pytest.raises(UnknownDeployment):
            await stop_deployment(uow, platform.admin, "talk")
        with pytest.raises(InvalidName):
            await uow.deployments.get(platform.project_id, "no/name")


async def test_deployments_are_listed_complete(platform: Platform) -> None:
    master = await platform.master()
    rollout = await platform.promoted(master, "first")
    written = await write(platform, replica(rollout.to_release_id))
    pending = await platform.rollout(master, "second")
    async with platform.database.begin() as uow:
        page = await uow.deployments.list(platform.project_id, limit=10)
    assert [(item.name, item.active_rollout, item.replicas) for item in page.data] == [("second", pending, []), ("first", None, [written])]
