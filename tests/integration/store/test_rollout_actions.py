"""What people ask of rollouts and deployments: it holds at once, may be asked again, and is audited."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from factories.store import Platform, adapter_draft, finetune_spec, replica
from quantry_core.errors import Conflict, NotServable, RolloutOver, StaleRollout, UnknownRelease, UnknownRollout
from quantry_core.jobs import DeploySpec, EngineConfig, JobReason, JobStatus, JobSubmission, Scaling
from quantry_core.rollouts import (
    Deployment,
    PeriodCause,
    ReplicaState,
    RollbackOrder,
    Rollout,
    RolloutCause,
    RolloutReason,
    RolloutRequest,
    RolloutState,
)
from quantry_core.strategies import CanaryStrategy
from quantry_core.versions import Version
from quantry_store.transactions import (
    ask_of_rollout,
    attach_adapter,
    begin_rollout,
    pause_rollout,
    promote_rollout,
    resume_deployment,
    roll_back,
    stage_rollout,
    stop_deployment,
    submit_job,
    undo_promotion,
    upsert_replica,
)

ENDED = [RolloutState.PROMOTED, RolloutState.ROLLED_BACK, RolloutState.ABORTED]


@pytest.fixture
async def master(platform: Platform) -> Version:
    return await platform.master()


async def ask(platform: Platform, rollout: Rollout, request: RolloutRequest, note: str | None = None) -> Rollout:
    async with platform.database.begin() as uow:
        return await ask_of_rollout(uow, platform.admin, rollout.id, request, note)


async def rolled(platform: Platform, number: int | None = None, note: str | None = None) -> Deployment:
    async with platform.database.begin() as uow:
        return await roll_back(uow, platform.admin, "chat", RollbackOrder(release=number, note=note))


async def exposed(platform: Platform, version: Version, percent: int = 10, **changes: Any) -> Rollout:
    """Returns a canary that has a share."""
    rollout = await platform.rollout(version, **{"strategy": CanaryStrategy(), **changes})
    async with platform.database.begin() as uow:
        begun = await begin_rollout(uow, rollout.id)
    async with platform.database.begin() as uow:
        return await stage_rollout(uow, begun.id, seen=begun, stage=0, percent=percent, mirror_percent=0)


async def ready(platform: Platform, release_id: str) -> None:
    async with platform.database.begin() as uow:
        await upsert_replica(uow, replica(release_id))


def serves(deployment: Deployment) -> int:
    """Returns the number of the release that serves."""
    assert deployment.current_release is not None
    return deployment.current_release.number


async def test_pause_and_resume_keep_the_share(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    rollout = await exposed(platform, master)
    num_actions, revision = len(await platform.actions()), await platform.revision()
    for _ in range(2):
        paused = await ask(platform, rollout, RolloutRequest.PAUSE, "lunch")
        assert (paused.state, paused.reason, paused.percent) == (RolloutState.PAUSED, RolloutReason.REQUESTED, 10)
        assert paused.message == "paused by request: lunch"
    for _ in range(2):
        resumed = await ask(platform, rollout, RolloutRequest.RESUME)
        assert (resumed.state, resumed.reason, resumed.message) == (RolloutState.PROGRESSING, None, None)
        assert not resumed.is_resumed, "its stage is judged as before"
    assert (await platform.actions())[num_actions:] == ["rollout.pause", "rollout.resume"]
    assert await platform.revision() == revision + 2


async def test_resume_lets_a_stage_through_that_waits_for_a_person(platform: Platform, master: Version) -> None:
    rollout = await exposed(platform, master)
    async with platform.database.begin() as uow:
        await pause_rollout(uow, rollout.id, seen=rollout, reason=RolloutReason.STEP, message="waits")
    resumed = await ask(platform, rollout, RolloutRequest.RESUME)
    assert (resumed.state, resumed.is_resumed) == (RolloutState.PROGRESSING, True)
    async with platform.database.begin() as uow:
        staged = await stage_rollout(uow, rollout.id, seen=resumed, stage=1, percent=50, mirror_percent=0)
    assert not staged.is_resumed, "that was for one stage"


async def test_resume_gives_an_inconclusive_stage_its_time_again_and_nothing_more(platform: Platform, master: Version) -> None:
    rollout = await exposed(platform, master)
    async with platform.database.begin() as uow:
        await pause_rollout(uow, rollout.id, seen=rollout, reason=RolloutReason.INCONCLUSIVE, message="no requests")
    resumed = await ask(platform, rollout, RolloutRequest.RESUME)
    assert rollout.staged_at is not None
    assert resumed.staged_at is not None
    assert (resumed.state, resumed.percent, resumed.staged_at > rollout.staged_at) == (RolloutState.PROGRESSING, 10, True)
    assert not resumed.is_resumed, "where it passes later and its strategy pauses then, it does"


async def test_promote_is_a_wish_that_the_controller_fulfils(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    rollout = await exposed(platform, master)
    await ask(platform, rollout, RolloutRequest.PAUSE)
    num_actions = len(await platform.actions())
    for _ in range(2):
        wished = await ask(platform, rollout, RolloutRequest.PROMOTE, "it is good")
        assert (wished.state, wished.promote_requested, wished.percent) == (RolloutState.PROGRESSING, True, 10)
    assert (await platform.actions())[num_actions:] == ["rollout.promote"]
    await ask(platform, rollout, RolloutRequest.PAUSE)
    assert (await ask(platform, rollout, RolloutRequest.PROMOTE)).state is RolloutState.PROGRESSING, "a pause after it holds it up"
    async with platform.database.begin() as uow:
        promoted = await promote_rollout(uow, rollout.id)
    assert await ask(platform, rollout, RolloutRequest.PROMOTE) == promoted


async def test_a_pending_rollout_is_promised_and_aborted_but_not_paused(platform: Platform, master: Version) -> None:
    rollout = await platform.rollout(master)
    with pytest.raises(Conflict, match="has not begun"):
        await ask(platform, rollout, RolloutRequest.PAUSE)
    assert await ask(platform, rollout, RolloutRequest.RESUME) == rollout
    wished = await ask(platform, rollout, RolloutRequest.PROMOTE)
    assert (wished.state, wished.promote_requested) == (RolloutState.PENDING, True)
    ended = await ask(platform, rollout, RolloutRequest.ROLL_BACK)
    assert (ended.state, ended.reason) == (RolloutState.ABORTED, RolloutReason.REQUESTED), "what never began is not rolled back"
    assert await ask(platform, rollout, RolloutRequest.ROLL_BACK) == ended
    assert rollout.job_id is not None
    assert (await platform.job(rollout.job_id)).status is JobStatus.CANCELLED


@pytest.mark.parametrize(
    ("request_", "state", "cause"),
    [
        (RolloutRequest.ABORT, RolloutState.ABORTED, PeriodCause.ABORTED),
        (RolloutRequest.ROLL_BACK, RolloutState.ROLLED_BACK, PeriodCause.ROLLED_BACK),
    ],
)
async def test_an_end_by_request_takes_the_share_and_cancels_the_job(
    platform: Platform, master: Version, request_: RolloutRequest, state: RolloutState, cause: PeriodCause
) -> None:
    await platform.promoted(master)
    rollout = await exposed(platform, master)
    for _ in range(2):
        ended = await ask(platform, rollout, request_, "too slow")
        assert (ended.state, ended.reason, ended.percent) == (state, RolloutReason.REQUESTED, 0)
    async with platform.database.begin() as uow:
        last = await uow.periods.at(await uow.deployments.get(platform.project_id, "chat"), None)
        (one,) = (await uow.routes.snapshot()).routes
    assert last is not None
    assert (last.cause, last.key_id, last.note) == (cause, platform.admin.key_id, "too slow")
    assert [variant.percent for variant in one.variants] == [100]
    assert rollout.job_id is not None
    job = await platform.job(rollout.job_id)
    assert (job.status, job.reason) == (JobStatus.CANCELLED, JobReason.CANCELLED)


async def test_what_has_ended_is_refused_by_its_state(platform: Platform, master: Version) -> None:
    promoted = await platform.promoted(master)
    aborted = await exposed(platform, master)
    await ask(platform, aborted, RolloutRequest.ABORT)
    for rollout, state, requests in (
        (promoted, "promoted", set(RolloutRequest) - {RolloutRequest.PROMOTE}),
        (aborted, "aborted", {RolloutRequest.PAUSE, RolloutRequest.RESUME, RolloutRequest.PROMOTE}),
    ):
        for request in requests:
            with pytest.raises(RolloutOver, match=f"{rollout.id} is {state}"):
                await ask(platform, rollout, request)
    with pytest.raises(RolloutOver, match="roll its deployment back instead"):
        await ask(platform, promoted, RolloutRequest.ROLL_BACK)


async def test_a_rollout_of_another_project_is_unknown(platform: Platform, stranger: Platform, master: Version) -> None:
    rollout = await platform.rollout(master)
    with pytest.raises(UnknownRollout):
        await ask(stranger, rollout, RolloutRequest.ABORT)


async def test_a_persons_pause_makes_the_controllers_step_stale(platform: Platform, master: Version) -> None:
    """Two transactions: the controller has read, the person commits first."""
    rollout = await exposed(platform, master)
    async with platform.database.begin() as person:
        await ask_of_rollout(person, platform.admin, rollout.id, RolloutRequest.PAUSE, None)

        async def step() -> None:
            async with platform.database.begin() as controller:
                await stage_rollout(controller, rollout.id, seen=rollout, stage=1, percent=100, mirror_percent=0)

        waiting = asyncio.create_task(step())
        await asyncio.sleep(0.1)
        assert not waiting.done(), "it waits for the person's commit"
    with pytest.raises(StaleRollout):
        await waiting
    active = (await platform.deployment()).active_rollout
    assert active is not None
    assert (active.state, active.percent) == (RolloutState.PAUSED, 10)


async def test_rollback_with_a_warm_release_is_a_change_of_weights(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    second = await platform.promoted(master, watch_s=60)
    await ready(platform, first.to_release_id)
    await ready(platform, second.to_release_id)
    num_actions = len(await platform.actions())
    for _ in range(2):
        deployment = await rolled(platform, 1, "answers in rhyme")
        assert (serves(deployment), deployment.active_rollout, deployment.watched_rollout) == (1, None, None)
    assert (await platform.actions())[num_actions:] == ["rollout.promote", "deployment.rollback"]
    async with platform.database.begin() as uow:
        back = (await uow.rollouts.list(platform.project_id, deployment)).data[0]
        last = await uow.periods.at(deployment, None)
        (one,) = (await uow.routes.snapshot()).routes
    assert (back.cause, back.state, back.job_id, back.note) == (RolloutCause.ROLLBACK, RolloutState.PROMOTED, None, "answers in rhyme")
    assert (back.key_id, back.reason) == (platform.admin.key_id, RolloutReason.REQUESTED)
    assert last is not None
    assert (last.cause, last.note, last.key_id) == (PeriodCause.ROLLED_BACK, "answers in rhyme", platform.admin.key_id)
    assert [variant.release_id for variant in one.variants] == [first.to_release_id]


async def test_rollback_to_a_cold_release_is_a_rollout(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    second = await platform.promoted(master)
    async with platform.database.begin() as uow:
        await upsert_replica(uow, replica(first.to_release_id, ReplicaState.STARTING))
    await ready(platform, second.to_release_id)
    deployment = await rolled(platform)
    back = deployment.active_rollout
    assert back is not None
    assert (serves(deployment), back.state, back.cause, back.to_release_id) == (
        2,
        RolloutState.PENDING,
        RolloutCause.ROLLBACK,
        first.to_release_id,
    )
    assert await rolled(platform) == deployment, "it is under way"
    assert await rolled(platform, 1) == deployment
    async with platform.database.begin() as uow:
        await begin_rollout(uow, back.id)
    async with platform.database.begin() as uow:
        done = await promote_rollout(uow, back.id)
    assert (done.state, serves(await platform.deployment())) == (RolloutState.PROMOTED, 1)


async def test_rollback_during_a_rollout_ends_it_and_what_serves_goes_on(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    rollout = await exposed(platform, master, 50)
    deployment = await rolled(platform, note="errors")
    assert (serves(deployment), deployment.active_rollout) == (1, None)
    async with platform.database.begin() as uow:
        ended = await uow.rollouts.get(platform.project_id, rollout.id)
        last = await uow.periods.at(deployment, None)
    assert (ended.state, ended.reason, ended.message) == (
        RolloutState.ROLLED_BACK,
        RolloutReason.REQUESTED,
        "rolled back by request: errors",
    )
    assert last is not None
    assert [share.percent for share in last.shares] == [100]


async def test_rollback_further_back_ends_a_rollout_and_begins_another(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    await platform.promoted(master)
    rollout = await exposed(platform, master)
    deployment = await rolled(platform, 1)
    assert deployment.active_rollout is not None
    assert (deployment.active_rollout.to_release_id, serves(deployment)) == (first.to_release_id, 2)
    async with platform.database.begin() as uow:
        assert (await uow.rollouts.get(platform.project_id, rollout.id)).state is RolloutState.ROLLED_BACK


async def test_rollback_without_a_number_goes_back_step_by_step(platform: Platform, master: Version) -> None:
    for _ in range(3):
        await ready(platform, (await platform.promoted(master)).to_release_id)
    assert [serves(await rolled(platform)) for _ in range(2)] == [2, 1]
    with pytest.raises(Conflict, match="serves release 1, its first one: there is no release before it"):
        await rolled(platform)
    assert serves(await rolled(platform, 3)) == 3, "any release that has served"


async def test_rollback_that_cannot_be(platform: Platform, master: Version) -> None:
    await platform.rollout(master)
    with pytest.raises(UnknownRelease, match=r"has no release 7; releases here: 1"):
        await rolled(platform, 7)
    with pytest.raises(Conflict, match="release 1 of deployment 'chat' never served"):
        await rolled(platform, 1)
    assert (await rolled(platform)).active_rollout is None
    with pytest.raises(Conflict, match="serves nothing yet"):
        await rolled(platform)
    await platform.promoted(master)
    await platform.promoted(master)
    async with platform.database.begin() as uow:
        await stop_deployment(uow, platform.admin, "chat")
    with pytest.raises(Conflict, match="is stopped; start it"):
        await rolled(platform)


async def test_a_release_of_a_quarantined_version_does_not_serve_again(platform: Platform, master: Version) -> None:
    copy = await platform.quantized(master, await platform.dataset())
    await platform.promoted(copy)
    await platform.promoted(master)
    async with platform.database.begin() as uow:
        await uow.versions.quarantine(copy.id)
    with pytest.raises(NotServable, match=f"{copy.ref} is quarantined"):
        await rolled(platform)
    assert serves(await platform.deployment()) == 2


async def test_rollback_while_something_else_begins_is_to_be_asked_again(platform: Platform, master: Version) -> None:
    """Two transactions: the person has read the deployment, and another deploy commits first."""
    await platform.promoted(master)
    await platform.promoted(master)
    async with platform.database.begin() as other:
        await other.deployments.lock(platform.project_id, "chat")
        waiting = asyncio.create_task(rolled(platform))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await submit_job(other, platform.admin, JobSubmission(spec=DeploySpec(deployment="chat", version=master.id)))
    with pytest.raises(StaleRollout, match="ask again"):
        await waiting
    assert (await rolled(platform)).active_rollout is None


async def test_rollback_while_a_rollout_begins_waits_for_it(platform: Platform, master: Version) -> None:
    """Two transactions: the controller has the job of a rollout that begins, and then ends the watch of the one before."""
    first = await platform.promoted(master)
    await platform.promoted(master, watch_s=60)
    third = await platform.rollout(master)
    assert third.job_id is not None
    async with platform.database.begin() as controller:
        await controller.jobs.lock(platform.project_id, third.job_id)
        waiting = asyncio.create_task(rolled(platform, 1))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await begin_rollout(controller, third.id)
    back = (await waiting).active_rollout
    assert back is not None
    assert (back.cause, back.to_release_id) == (RolloutCause.ROLLBACK, first.to_release_id)
    async with platform.database.begin() as uow:
        assert (await uow.rollouts.get(platform.project_id, third.id)).state is RolloutState.ROLLED_BACK


async def test_rollback_while_its_deployment_is_stopped_is_refused(platform: Platform, master: Version) -> None:
    """Two transactions: the person has read the deployment, and another one stops it first."""
    first = await platform.promoted(master)
    await platform.promoted(master)
    await ready(platform, first.to_release_id)
    async with platform.database.begin() as other:
        await stop_deployment(other, platform.admin, "chat")
        waiting = asyncio.create_task(rolled(platform, 1))
        await asyncio.sleep(0.1)
        assert not waiting.done()
    with pytest.raises(StaleRollout, match="ask again"):
        await waiting
    assert serves(await platform.deployment()) == 2


async def test_a_scaled_release_that_serves_again_keeps_what_is_warm_of_it(platform: Platform, master: Version) -> None:
    scaling = Scaling(min_replicas=1, max_replicas=4)
    first = await platform.promoted(master, scaling=scaling)
    second = await platform.promoted(master)
    async with platform.database.begin() as uow:
        for ordinal, state in enumerate([ReplicaState.READY, ReplicaState.FAILED, ReplicaState.READY, ReplicaState.STOPPING]):
            await upsert_replica(uow, replica(first.to_release_id, state, ordinal=ordinal))
        await upsert_replica(uow, replica(second.to_release_id))
    assert (await rolled(platform, 1)).num_wanted == 3
    assert (await rolled(platform, 2)).num_wanted is None, "it has its number, whatever there is of the other one"


async def test_an_adapter_waits_until_its_base_cannot_be_rolled_back_by_itself(platform: Platform, master: Version) -> None:
    room = EngineConfig(max_adapters=1)
    tales = await platform.dataset("lessons")
    copy = await platform.quantized(master, tales)
    await platform.promoted(master, engine=room)
    spec = finetune_spec(copy.ref)
    adapter = await platform.made(await platform.running(spec), adapter_draft())
    watched = await platform.promoted(copy, engine=room, watch_s=60)
    with pytest.raises(Conflict, match=f"was not trained on {master.ref}, to which deployment 'chat' may be rolled back by itself until"):
        async with platform.database.begin() as uow:
            await attach_adapter(uow, platform.admin, "chat", "pirate", adapter.ref)
    async with platform.database.begin() as uow:
        await uow.rollouts.end_watch(watched.id)
    async with platform.database.begin() as uow:
        await attach_adapter(uow, platform.admin, "chat", "pirate", adapter.ref)
    with pytest.raises(Conflict, match="adapter 'pirate'"):
        await rolled(platform)


async def test_undo_and_a_persons_rollback_do_it_once(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    second = await platform.promoted(master, watch_s=60)
    await ready(platform, first.to_release_id)

    async def undo() -> None:
        async with platform.database.begin() as uow:
            await undo_promotion(uow, second.id, RolloutReason.CRASH_LOOP, "it ends again and again")

    done = await asyncio.gather(undo(), rolled(platform, 1), return_exceptions=True)
    assert sum(isinstance(one, StaleRollout) for one in done) <= 1
    assert all(one is None or isinstance(one, Deployment | StaleRollout) for one in done)
    deployment = await platform.deployment()
    assert serves(deployment) == 1
    async with platform.database.begin() as uow:
        rollouts = (await uow.rollouts.list(platform.project_id, deployment)).data
    assert len(rollouts) == 3, "one of them brought it back"


async def test_history_tells_what_served_when(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    rollout = await exposed(platform, master, 50)
    await ask(platform, rollout, RolloutRequest.ABORT)
    async with platform.database.begin() as uow:
        await stop_deployment(uow, platform.admin, "chat")
    async with platform.database.begin() as uow:
        deployment = await resume_deployment(uow, platform.admin, "chat")
    async with platform.database.begin() as uow:
        newest = await uow.periods.list(deployment, limit=2)
        rest = await uow.periods.list(deployment, after=newest.last_id)
        history = [*newest.data, *rest.data][::-1]
        assert [one.cause for one in history] == [
            PeriodCause.PROMOTED,
            PeriodCause.STAGE,
            PeriodCause.ABORTED,
            PeriodCause.STOPPED,
            PeriodCause.STARTED,
        ]
        assert [one.ended_at for one in history] == [*[one.began_at for one in history[1:]], None]
        assert [[share.percent for share in one.shares] for one in history] == [[100], [50, 50], [100], [], [100]]
        assert [share.version_ref for share in history[1].shares] == [master.ref, master.ref]
        instant = timedelta(microseconds=1)
        assert await uow.periods.at(deployment, history[0].began_at - instant) is None
        for one in history:
            assert await uow.periods.at(deployment, one.began_at) == one
        assert await uow.periods.at(deployment, history[2].began_at - instant) == history[1]
        assert await uow.periods.at(deployment, None) == history[-1]
    assert history[0].shares[0].release_id == first.to_release_id
