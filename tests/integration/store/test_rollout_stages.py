"""The stages of a rollout, the watch after it, and what gateways learn of both."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest

from factories.store import Platform, replica
from quantry_core.errors import IllegalTransition, StaleRollout, UnknownRollout
from quantry_core.jobs import EngineConfig, JobReason, Scaling
from quantry_core.rollouts import (
    PeriodCause,
    Replica,
    ReplicaState,
    Rollout,
    RolloutCause,
    RolloutReason,
    RolloutRequest,
    RolloutState,
    ServingPeriod,
)
from quantry_core.routes import Route, VariantRole
from quantry_core.rules import RuleName
from quantry_core.strategies import AbStrategy, CanaryStrategy, ShadowStrategy, StickyBy
from quantry_core.verdicts import Finding, Judgement, Verdict
from quantry_core.versions import Version
from quantry_store.transactions import (
    ask_of_rollout,
    begin_rollout,
    end_watch,
    fail_rollout,
    judge_rollout,
    load_deployments,
    pause_rollout,
    promote_rollout,
    set_wanted,
    stage_rollout,
    stop_deployment,
    undo_promotion,
    upsert_replica,
)

ENGINE = EngineConfig(max_num_seqs=32)


@pytest.fixture
async def master(platform: Platform) -> Version:
    return await platform.master()


async def write(platform: Platform, *replicas: Replica) -> None:
    for one in replicas:
        async with platform.database.begin() as uow:
            await upsert_replica(uow, one)


async def stage(platform: Platform, seen: Rollout, *, percent: int, number: int = 0, mirror_percent: int = 0) -> Rollout:
    async with platform.database.begin() as uow:
        return await stage_rollout(uow, seen.id, seen=seen, stage=number, percent=percent, mirror_percent=mirror_percent)


async def begin(platform: Platform, rollout: Rollout) -> Rollout:
    async with platform.database.begin() as uow:
        return await begin_rollout(uow, rollout.id)


async def promote(platform: Platform, rollout: Rollout) -> Rollout:
    async with platform.database.begin() as uow:
        return await promote_rollout(uow, rollout.id)


async def begun(platform: Platform, version: Version, **changes: Any) -> Rollout:
    return await begin(platform, await platform.rollout(version, **{"strategy": CanaryStrategy(), **changes}))


async def route(platform: Platform) -> Route:
    async with platform.database.begin() as uow:
        (only,) = (await uow.routes.snapshot()).routes
    return only


async def periods(platform: Platform) -> list[ServingPeriod]:
    """Returns the history, oldest first."""
    async with platform.database.begin() as uow:
        page = await uow.periods.list(await uow.deployments.get(platform.project_id, "chat"))
    return page.data[::-1]


async def test_a_rollout_is_planned_as_its_job_says(platform: Platform, master: Version) -> None:
    scaling = Scaling(min_replicas=0, max_replicas=3)
    strategy = CanaryStrategy()
    rollout = await platform.rollout(master, strategy=strategy, watch_s=60, scaling=scaling, note="smaller", engine=ENGINE)
    assert (rollout.cause, rollout.strategy, rollout.watch_s, rollout.note) == (RolloutCause.DEPLOY, strategy, 60, "smaller")
    assert (rollout.key_id, rollout.stage, rollout.percent, rollout.staged_at) == (platform.admin.key_id, 0, 0, None)
    async with platform.database.begin() as uow:
        release = await uow.releases.get(rollout.to_release_id)
    assert (release.scaling, release.servers, release.engine) == (scaling, [], ENGINE)


async def test_the_servers_of_a_job_are_its_replicas(platform: Platform, master: Version) -> None:
    servers = ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]
    rollout = await platform.rollout(master, servers=servers)
    async with platform.database.begin() as uow:
        release = await uow.releases.get(rollout.to_release_id)
    assert (release.servers, release.num_replicas) == (servers, 2)


async def test_a_stage_gives_the_candidate_its_share_in_routes_and_history(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    rollout = await begun(platform, master, note="smaller", engine=ENGINE)
    stable, candidate = replica(first.to_release_id), replica(rollout.to_release_id, url="http://127.0.0.1:9001")
    await write(platform, stable, candidate)
    before = await route(platform)
    assert [(one.role, one.percent) for one in before.variants] == [(VariantRole.STABLE, 100), (VariantRole.CANDIDATE, 0)]
    revision = await platform.revision()
    staged = await stage(platform, rollout, percent=10)
    assert await platform.revision() == revision + 1
    assert (staged.stage, staged.percent) == (0, 10)
    assert staged.exposed_at == staged.staged_at is not None
    after = await route(platform)
    shown = [(one.role, one.release_id, one.release_number, one.percent, [item.id for item in one.replicas]) for one in after.variants]
    assert shown == [
        (VariantRole.STABLE, first.to_release_id, 1, 90, [stable.id]),
        (VariantRole.CANDIDATE, rollout.to_release_id, 2, 10, [candidate.id]),
    ]
    assert [one.replicas[0].max_requests for one in after.variants] == [32, 64], "twice what the engine decodes at once"
    assert (after.deployment_id, after.split, after.mirror, after.wakes) == (rollout.deployment_id, None, None, False)
    later = await stage(platform, staged, percent=50, number=1)
    assert (later.exposed_at, later.stage) == (staged.exposed_at, 1)
    assert later.staged_at is not None
    assert staged.staged_at is not None
    assert later.staged_at > staged.staged_at
    told = [(one.cause, [share.percent for share in one.shares], one.note, one.key_id) for one in await periods(platform)]
    key_id = platform.admin.key_id
    assert told == [
        (PeriodCause.PROMOTED, [100], None, key_id),
        (PeriodCause.STAGE, [90, 10], "smaller", key_id),
        (PeriodCause.STAGE, [50, 50], "smaller", key_id),
    ]


async def test_a_stage_that_changes_no_share_is_no_new_period(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    rollout = await stage(platform, await begun(platform, master), percent=0)
    assert rollout.exposed_at is None
    assert rollout.staged_at is not None
    shadowed = await stage(platform, rollout, percent=0, number=1, mirror_percent=20)
    assert shadowed.exposed_at == shadowed.staged_at
    assert len(await periods(platform)) == 1


async def test_what_moved_meanwhile_is_not_staged_or_paused(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    seen = await begun(platform, master)
    staged = await stage(platform, seen, percent=10)
    revision = await platform.revision()
    with pytest.raises(StaleRollout):
        await stage(platform, seen, percent=50, number=1)
    with pytest.raises(StaleRollout):
        async with platform.database.begin() as uow:
            await pause_rollout(uow, seen.id, seen=seen, reason=RolloutReason.STEP, message="its turn")
    assert ((await platform.deployment()).active_rollout, await platform.revision()) == (staged, revision)
    async with platform.database.begin() as uow:
        paused = await pause_rollout(uow, staged.id, seen=staged, reason=RolloutReason.STEP, message="its turn")
    assert (paused.state, paused.reason, paused.message, paused.percent) == (RolloutState.PAUSED, RolloutReason.STEP, "its turn", 10)
    assert [one.percent for one in (await route(platform)).variants] == [90, 10], "it keeps its share"
    with pytest.raises(StaleRollout):
        await stage(platform, paused, percent=50, number=1)
    with pytest.raises(UnknownRollout):
        async with platform.database.begin() as uow:
            await begin_rollout(uow, "rol_" + "0" * 32)


async def test_a_deployment_that_was_stopped_meanwhile_is_not_promoted(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    rollout = await begun(platform, master)
    async with platform.database.begin() as uow:
        await stop_deployment(uow, platform.admin, "chat")
    with pytest.raises(StaleRollout, match="was stopped"):
        await promote(platform, rollout)
    deployment = await platform.deployment()
    assert deployment.current_release is not None
    assert (deployment.current_release.id, deployment.active_rollout) == (first.to_release_id, rollout)


@pytest.mark.parametrize(
    ("reason", "is_overtaken"),
    [(RolloutReason.VERDICT_FAILED, True), (RolloutReason.INCONCLUSIVE, True), (RolloutReason.CRASH_LOOP, False)],
)
async def test_a_person_who_says_promote_is_believed_more_than_evidence(
    platform: Platform, master: Version, reason: RolloutReason, is_overtaken: bool
) -> None:
    await platform.promoted(master)
    rollout = await begun(platform, master)
    async with platform.database.begin() as uow:
        await ask_of_rollout(uow, platform.admin, rollout.id, RolloutRequest.PROMOTE, None)
    with pytest.raises(StaleRollout, match="is to be promoted") if is_overtaken else nullcontext():
        async with platform.database.begin() as uow:
            await fail_rollout(uow, rollout.id, RolloutState.ROLLED_BACK, reason, JobReason.TIMED_OUT, "as was seen before")
    assert ((await platform.deployment()).active_rollout is not None) is is_overtaken


async def test_a_failed_rollout_has_no_share_from_that_moment(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    rollout = await stage(platform, await begun(platform, master), percent=50)
    await write(platform, replica(first.to_release_id), replica(rollout.to_release_id))
    async with platform.database.begin() as uow:
        await fail_rollout(
            uow, rollout.id, RolloutState.ROLLED_BACK, RolloutReason.VERDICT_FAILED, JobReason.VERDICT_FAILED, "p95 is 3 s, allowed 1 s"
        )
    only = await route(platform)
    assert [(one.release_id, one.percent) for one in only.variants] == [(first.to_release_id, 100)]
    last = (await periods(platform))[-1]
    assert (last.cause, last.reason, last.message) == (PeriodCause.ROLLED_BACK, RolloutReason.VERDICT_FAILED, "p95 is 3 s, allowed 1 s")
    assert (last.key_id, [share.release_id for share in last.shares]) == (None, [first.to_release_id])
    assert rollout.job_id is not None
    assert (await platform.job(rollout.job_id)).reason is JobReason.VERDICT_FAILED


async def test_an_ab_route_says_what_keeps_a_client_with_its_variant(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    strategy = AbStrategy(percent=30, sticky_by=StickyBy.HEADER, header="X-Team")
    rollout = await stage(platform, await begun(platform, master, strategy=strategy), percent=30)
    split = (await route(platform)).split
    assert split is not None
    assert (split.by, split.header, split.salt) == (StickyBy.HEADER, "x-team", rollout.id)


async def test_a_shadow_route_says_what_is_compared(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    rollout = await begun(platform, master, strategy=ShadowStrategy(percent=20, max_tokens=8))
    assert (await route(platform)).mirror is None
    await stage(platform, rollout, percent=0, mirror_percent=20)
    shadowed = await route(platform)
    assert shadowed.mirror is not None
    assert (shadowed.mirror.percent, shadowed.mirror.max_tokens) == (20, 8)
    assert [one.percent for one in shadowed.variants] == [100, 0]


async def test_the_first_release_of_all_serves_what_it_is_given(platform: Platform, master: Version) -> None:
    rollout = await stage(platform, await begun(platform, master), percent=10)
    (variant,) = (await route(platform)).variants
    assert (variant.role, variant.release_id) == (VariantRole.CANDIDATE, rollout.to_release_id)
    assert [(share.release_id, share.percent) for share in (await periods(platform))[-1].shares] == [(rollout.to_release_id, 100)]


async def test_a_judgement_stays_with_its_rollout(platform: Platform, master: Version) -> None:
    rollout = await begun(platform, master)
    revision = await platform.revision()
    finding = Finding(rule=RuleName.LATENCY_COMPARED, verdict=Verdict.PASS, message="as fast", candidate=0.5, stable=0.5)
    judgement = Judgement(verdict=Verdict.PASS, findings=[finding], made_at=datetime(2026, 11, 23, tzinfo=UTC))
    async with platform.database.begin() as uow:
        await judge_rollout(uow, rollout.id, judgement)
    active = (await platform.deployment()).active_rollout
    assert active is not None
    assert active.judgement == judgement
    assert await platform.revision() == revision, "gateways need not know"


async def test_a_promotion_is_watched_and_its_watch_ends(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    assert first.watch_until is None, "there is nothing to go back to"
    second = await promote(platform, await begun(platform, master, watch_s=60))
    assert second.watch_until is not None
    assert second.finished_at is not None
    assert (second.watch_until - second.finished_at).total_seconds() == 60
    assert (second.percent, second.reason) == (100, RolloutReason.COMPLETED)
    async with platform.database.begin() as uow:
        (record,) = await load_deployments(uow)
    assert record.deployment.watched_rollout == second
    assert set(record.releases) == {first.to_release_id, second.to_release_id}, "the one before is kept warm"
    for _ in range(2):
        async with platform.database.begin() as uow:
            assert (await end_watch(uow, second.id)).id == second.id
    assert (await platform.deployment()).watched_rollout is None


async def test_a_rollout_that_begins_ends_the_watch_of_the_one_before(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    second = await promote(platform, await begun(platform, master, watch_s=60))
    third = await platform.rollout(master, watch_s=60)
    assert (await platform.deployment()).watched_rollout == second, "it has not begun"
    await begin(platform, third)
    assert (await platform.deployment()).watched_rollout is None
    with pytest.raises(StaleRollout):
        async with platform.database.begin() as uow:
            await undo_promotion(uow, second.id, RolloutReason.CRASH_LOOP, "it ends again and again")
    assert (await platform.deployment()).active_rollout is not None


async def test_a_stopped_deployment_is_not_watched(platform: Platform, master: Version) -> None:
    await platform.promoted(master)
    await promote(platform, await begun(platform, master, watch_s=60))
    async with platform.database.begin() as uow:
        stopped = await stop_deployment(uow, platform.admin, "chat")
    assert stopped.watched_rollout is None
    last = (await periods(platform))[-1]
    assert (last.cause, last.shares, last.key_id) == (PeriodCause.STOPPED, [], platform.admin.key_id)


async def test_a_watched_promotion_is_undone_at_once_where_the_release_before_is_warm(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    second = await promote(platform, await begun(platform, master, watch_s=60))
    await write(platform, replica(first.to_release_id))
    async with platform.database.begin() as uow:
        back = await undo_promotion(uow, second.id, RolloutReason.CRASH_LOOP, "it ends again and again")
    assert (back.cause, back.state, back.reason) == (RolloutCause.WATCH, RolloutState.PROMOTED, RolloutReason.CRASH_LOOP)
    assert (back.from_release_id, back.to_release_id) == (second.to_release_id, first.to_release_id)
    assert (back.job_id, back.key_id, back.watch_until) == (None, None, None)
    deployment = await platform.deployment()
    assert deployment.current_release is not None
    assert (deployment.current_release.id, deployment.active_rollout, deployment.watched_rollout) == (first.to_release_id, None, None)
    assert [one.release_id for one in (await route(platform)).variants] == [first.to_release_id]
    last = (await periods(platform))[-1]
    assert (last.cause, last.reason, last.rollout_id) == (PeriodCause.ROLLED_BACK, RolloutReason.CRASH_LOOP, back.id)
    assert (await platform.actions())[-1] == "rollout.undo"
    with pytest.raises(StaleRollout):
        async with platform.database.begin() as uow:
            await undo_promotion(uow, second.id, RolloutReason.CRASH_LOOP, "again")


async def test_a_watched_promotion_is_undone_by_a_rollout_where_the_release_before_is_cold(platform: Platform, master: Version) -> None:
    first = await platform.promoted(master)
    second = await promote(platform, await begun(platform, master, watch_s=60))
    await write(platform, replica(first.to_release_id, ReplicaState.STARTING))
    async with platform.database.begin() as uow:
        back = await undo_promotion(uow, second.id, RolloutReason.VERDICT_FAILED, "slower")
    assert (back.state, back.cause, back.note, back.strategy.name) == (RolloutState.PENDING, RolloutCause.WATCH, "slower", "immediate")
    deployment = await platform.deployment()
    assert deployment.current_release is not None
    assert (deployment.current_release.id, deployment.active_rollout) == (second.to_release_id, back)
    begun_back = await begin(platform, back)
    assert begun_back.ready_deadline_at > back.ready_deadline_at
    assert (begun_back.ready_deadline_at - begun_back.created_at).total_seconds() > 600
    done = await promote(platform, begun_back)
    assert (done.state, done.watch_until) == (RolloutState.PROMOTED, None)
    assert (await periods(platform))[-1].cause is PeriodCause.ROLLED_BACK


async def test_scaling_is_told_to_gateways_only_as_far_as_they_must_know(platform: Platform, master: Version) -> None:
    rollout = await platform.promoted(master, scaling=Scaling(min_replicas=0, max_replicas=2))
    only = replica(rollout.to_release_id)
    await write(platform, only)
    assert not (await route(platform)).wakes
    revision = await platform.revision()
    for _ in range(2):
        async with platform.database.begin() as uow:
            await set_wanted(uow, rollout.deployment_id, 0)
    assert ((await platform.deployment()).num_wanted, await platform.revision()) == (0, revision + 1)
    assert (await route(platform)).wakes
    await write(platform, only.model_copy(update={"state": ReplicaState.STOPPED}))
    async with platform.database.begin() as uow:
        await set_wanted(uow, rollout.deployment_id, 1)
    assert (await route(platform)).wakes, "requests go on waiting until its replica is there"
    await write(platform, only)
    assert not (await route(platform)).wakes
    async with platform.database.begin() as uow:
        await set_wanted(uow, "dep_" + "0" * 32, 1)
    second = await promote(platform, await begun(platform, master))
    assert ((await platform.deployment()).num_wanted, second.state) == (None, RolloutState.PROMOTED), "another release, other numbers"


async def test_an_illegal_move_writes_nothing(platform: Platform, master: Version) -> None:
    rollout = await begun(platform, master)
    async with platform.database.begin() as uow:
        paused = await pause_rollout(uow, rollout.id, seen=rollout, reason=RolloutReason.INCONCLUSIVE, message="no requests")
    revision = await platform.revision()
    for move in (begin(platform, paused), promote(platform, paused)):
        with pytest.raises(IllegalTransition):
            await move
    assert ((await platform.deployment()).active_rollout, await platform.revision()) == (paused, revision)
