"""Adapters of deployments: attached, detached, and everything that refuses them."""

from __future__ import annotations

import asyncio

import pytest

from factories.store import Platform, replica, succeeded
from factories.trained import adapter_draft, trained
from quantry_core.datasets import Dataset
from quantry_core.errors import Conflict, InvalidName, NotFound, NotServable, UnknownDeployment, UnknownVersion, VersionProtected
from quantry_core.jobs import DeploySpec, EngineConfig, FinetuneSpec, JobReason, JobResult
from quantry_core.rollouts import AttachedAdapter, ReplicaState, RolloutReason, RolloutState
from quantry_core.routes import Route
from quantry_core.versions import Version
from quantry_store.transactions import (
    attach_adapter,
    begin_rollout,
    delete_version,
    detach_adapter,
    fail_rollout,
    promote_rollout,
    upsert_replica,
)

ROOM_FOR_TWO = EngineConfig(max_adapters=2, max_adapter_rank=16)


async def attach(platform: Platform, name: str, version: Version, deployment: str = "chat") -> AttachedAdapter:
    async with platform.database.begin() as uow:
        return await attach_adapter(uow, platform.admin, deployment, name, version.id)


async def detach(platform: Platform, name: str) -> AttachedAdapter:
    async with platform.database.begin() as uow:
        return await detach_adapter(uow, platform.admin, "chat", name)


async def promoted(platform: Platform, version: Version, name: str = "chat", engine: EngineConfig = ROOM_FOR_TWO) -> None:
    rollout = await platform.rollout(version, name, engine=engine)
    async with platform.database.begin() as uow:
        await begin_rollout(uow, rollout.id)
    async with platform.database.begin() as uow:
        await promote_rollout(uow, rollout.id)


async def routes(platform: Platform) -> dict[str, Route]:
    async with platform.database.begin() as uow:
        return {route.deployment: route for route in (await uow.routes.snapshot()).routes}


@pytest.fixture
async def base(platform: Platform) -> Version:
    """A version that deployment chat serves, with room for two adapters."""
    version = await platform.master()
    await promoted(platform, version)
    return version


@pytest.fixture
async def tales(platform: Platform) -> Dataset:
    return await platform.dataset()


async def test_an_attached_adapter_is_shown_routed_and_detached(platform: Platform, base: Version, tales: Dataset) -> None:
    version = await trained(platform, base, tales)
    before = await platform.revision()
    attached = await attach(platform, "pirate", version)
    assert (attached.name, attached.version_id, attached.version_ref, attached.job_id) == ("pirate", version.id, version.ref, None)
    assert (await platform.deployment()).adapters == [attached]
    assert await platform.revision() > before
    route = (await routes(platform))["pirate"]
    assert (route.parent, route.replicas, route.project_id) == ("chat", [], platform.project_id)
    await detach(platform, "pirate")
    assert (await platform.deployment()).adapters == []
    assert list(await routes(platform)) == ["chat"]
    assert (await platform.actions())[-2:] == ["adapter.attach", "adapter.detach"]
    with pytest.raises(NotFound, match="no adapter 'pirate'"):
        await detach(platform, "pirate")


async def test_only_replicas_that_have_it_loaded_are_routed(platform: Platform, base: Version, tales: Dataset) -> None:
    attached = await attach(platform, "pirate", await trained(platform, base, tales))
    release = (await platform.deployment()).current_release
    assert release is not None
    with_it = replica(release.id, adapter_ids=[attached.id])
    without = replica(release.id, ordinal=1, url="http://127.0.0.1:9001")
    for one in (with_it, without):
        async with platform.database.begin() as uow:
            await upsert_replica(uow, one)
    found = await routes(platform)
    assert [one.id for one in found["chat"].replicas] == [with_it.id, without.id]
    assert [one.id for one in found["pirate"].replicas] == [with_it.id]
    assert (await platform.deployment()).num_loaded(attached) == 1
    before = await platform.revision()
    async with platform.database.begin() as uow:
        await upsert_replica(uow, without.model_copy(update={"adapter_ids": [attached.id]}))
    assert await platform.revision() > before
    assert len((await routes(platform))["pirate"].replicas) == 2
    async with platform.database.begin() as uow:
        await upsert_replica(uow, with_it.model_copy(update={"state": ReplicaState.UNHEALTHY}))
    assert [one.id for one in (await routes(platform))["pirate"].replicas] == [without.id]


async def test_attaching_again_changes_nothing_and_another_version_takes_its_place(
    platform: Platform, base: Version, tales: Dataset
) -> None:
    first, second = await trained(platform, base, tales), await trained(platform, base, tales, seed=1)
    attached = await attach(platform, "pirate", first)
    before = await platform.revision()
    assert await attach(platform, "pirate", first) == attached
    assert await platform.revision() == before
    replaced = await attach(platform, "pirate", second)
    assert (replaced.id, replaced.version_id) == (attached.id, second.id)
    assert (await platform.actions()).count("adapter.attach") == 2


async def test_a_name_is_of_one_thing_only(platform: Platform, base: Version, tales: Dataset) -> None:
    version = await trained(platform, base, tales)
    await promoted(platform, base, "other")
    await attach(platform, "pirate", version)
    with pytest.raises(Conflict, match="'other' is the name of a deployment"):
        await attach(platform, "other", version)
    with pytest.raises(Conflict, match="adapter of deployment 'chat'"):
        await attach(platform, "pirate", version, deployment="other")
    with pytest.raises(Conflict, match="adapter of deployment 'chat'"):
        await platform.submit(DeploySpec(deployment="pirate", version=base.id))
    with pytest.raises(InvalidName):
        await attach(platform, "Pirate!", version)


async def test_of_a_deployment_and_an_adapter_made_at_once_one_gets_the_name(platform: Platform, base: Version, tales: Dataset) -> None:
    version = await trained(platform, base, tales)
    made = await asyncio.gather(
        attach(platform, "pirate", version),
        platform.submit(DeploySpec(deployment="pirate", version=base.id)),
        return_exceptions=True,
    )
    assert [isinstance(one, Conflict) for one in made].count(True) == 1
    assert [isinstance(one, BaseException) for one in made].count(True) == 1


async def test_what_cannot_be_attached(platform: Platform, base: Version, tales: Dataset) -> None:
    other = await platform.master("tiny", "another master")
    of_other = await trained(platform, other, tales)
    with pytest.raises(Conflict, match=f"trained on {other.ref}, and deployment 'chat' serves {base.ref}"):
        await attach(platform, "pirate", of_other)
    with pytest.raises(NotServable, match="master version and no adapter"):
        await attach(platform, "pirate", base)
    with pytest.raises(NotServable, match="rank 32 and the release takes ranks up to 16"):
        await attach(platform, "pirate", await trained(platform, base, tales, rank=32))
    with pytest.raises(NotServable, match="loads no dora adapters"):
        await attach(platform, "pirate", await trained(platform, base, tales, kind="dora"))
    version = await trained(platform, base, tales)
    with pytest.raises(UnknownDeployment):
        await attach(platform, "pirate", version, deployment="nobody")
    async with platform.database.begin() as uow:
        await delete_version(uow, version.id, who=platform.admin)
    with pytest.raises(UnknownVersion, match="deleted"):
        await attach(platform, "pirate", version)
    assert (await platform.deployment()).adapters == []


async def test_there_is_room_for_as_many_as_the_release_says(platform: Platform, base: Version, tales: Dataset) -> None:
    versions = [await trained(platform, base, tales, seed=seed) for seed in range(3)]
    await attach(platform, "a", versions[0])
    await attach(platform, "b", versions[1])
    with pytest.raises(Conflict, match="takes 2 adapters and 3 would be attached"):
        await attach(platform, "c", versions[2])
    await attach(platform, "b", versions[2])
    await promoted(platform, base, "bare", EngineConfig())
    with pytest.raises(Conflict, match="takes 0 adapters"):
        await attach(platform, "d", versions[0], deployment="bare")


async def test_a_rollout_must_be_able_to_take_the_adapters_along(platform: Platform, base: Version, tales: Dataset) -> None:
    await attach(platform, "a", await trained(platform, base, tales))
    await attach(platform, "b", await trained(platform, base, tales, seed=1))
    other = await platform.quantized(base, tales)
    with pytest.raises(Conflict, match=f"adapter 'a' .* was trained on {base.ref}, not on {other.ref}: detach it"):
        await platform.submit(DeploySpec(deployment="chat", version=other.id, engine=ROOM_FOR_TWO))
    with pytest.raises(Conflict, match="takes 1 adapters and 2 would be attached"):
        await platform.submit(DeploySpec(deployment="chat", version=base.id, engine=EngineConfig(max_adapters=1)))
    with pytest.raises(NotServable, match="rank 16 and the release takes ranks up to 8"):
        await platform.submit(DeploySpec(deployment="chat", version=base.id, engine=EngineConfig(max_adapters=2, max_adapter_rank=8)))
    assert (await platform.deployment()).active_rollout is None
    await platform.submit(DeploySpec(deployment="chat", version=base.id, engine=ROOM_FOR_TWO))


async def test_what_is_being_rolled_out_decides_what_may_be_attached(platform: Platform, base: Version, tales: Dataset) -> None:
    other = await platform.quantized(base, tales)
    of_base, of_other = await trained(platform, base, tales), await trained(platform, other, tales)
    rollout = await platform.rollout(other, engine=ROOM_FOR_TWO)
    await attach(platform, "pirate", of_other)
    with pytest.raises(Conflict, match=f"serves {other.ref}"):
        await attach(platform, "sailor", of_base)
    async with platform.database.begin() as uow:
        await fail_rollout(uow, rollout.id, RolloutState.ABORTED, RolloutReason.CANCELLED, JobReason.CANCELLED, "cancelled on request")
    await attach(platform, "sailor", of_base)


async def test_an_attached_version_is_not_deleted(platform: Platform, base: Version, tales: Dataset) -> None:
    version = await trained(platform, base, tales)
    await attach(platform, "pirate", version)
    with pytest.raises(VersionProtected, match=f"deployment 'chat' serves {version.ref} as adapter 'pirate'"):
        async with platform.database.begin() as uow:
            await delete_version(uow, version.id, who=platform.admin)
    await detach(platform, "pirate")
    async with platform.database.begin() as uow:
        await delete_version(uow, version.id, who=platform.admin)


async def finished(platform: Platform, base: Version, tales: Dataset, deployment: str) -> tuple[str, JobResult]:
    spec = FinetuneSpec(model=base.id, training_file=tales.id, deployment=deployment, suffix="sea")
    job = await platform.running(spec)
    done = await platform.finish(job, **succeeded(adapter_draft(spec, f"{base.model_name}-sea")))
    assert done.result is not None
    return job.id, done.result


async def test_a_finished_fine_tune_attaches_its_adapter(platform: Platform, base: Version, tales: Dataset) -> None:
    job_id, result = await finished(platform, base, tales, "chat")
    name = f"chat-sea-{job_id[-6:]}"
    assert result.metrics["adapter_name"] == name
    (attached,) = (await platform.deployment()).adapters
    assert (attached.name, attached.version_id, attached.job_id) == (name, result.version_id, job_id)


@pytest.mark.parametrize("deployment", ["nobody", "bare"])
async def test_what_refuses_the_adapter_does_not_undo_the_fine_tune(
    platform: Platform, base: Version, tales: Dataset, deployment: str
) -> None:
    await promoted(platform, base, "bare", EngineConfig())
    _, result = await finished(platform, base, tales, deployment)
    assert result.version_id is not None
    assert "adapter_name" not in result.metrics
    expected = {"nobody": "no deployment 'nobody'", "bare": "takes 0 adapters"}
    assert expected[deployment] in result.metrics["adapter_refused"]
