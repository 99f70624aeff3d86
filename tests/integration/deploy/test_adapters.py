"""Adapters on engines that run: loaded, unloaded, replaced and loaded again, without a restart of any engine."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from factories.deploy import Pool, ask
from factories.fake_engine import REFUSED_ALPHA
from quantry_core.jobs import EngineConfig, JobStatus
from quantry_core.rollouts import Replica, ReplicaState
from quantry_core.training import AdapterKind
from quantry_core.versions import Version
from quantry_store.transactions import detach_adapter

ROOM_FOR_TWO = EngineConfig(max_adapters=2, max_adapter_rank=16)


@pytest.fixture
async def base(pool: Pool) -> Version:
    """Served by one replica as chat, with room for two adapters."""
    version = await pool.version()
    await pool.serving(version, engine=ROOM_FOR_TWO)
    return version


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def detach(pool: Pool, name: str) -> None:
    async with pool.database.begin() as uow:
        await detach_adapter(uow, pool.platform.admin, "chat", name)


async def listed(replica: Replica) -> dict[str, str]:
    """Returns the name of the folder of each adapter that an engine lists."""
    async with httpx.AsyncClient(trust_env=False) as client:
        models = (await client.get(f"{replica.url}/v1/models")).json()["data"]
    return {model["id"]: Path(model["root"]).name for model in models if model["parent"] is not None}


async def folder_answering(url: str, name: str) -> str:
    """Returns the name of the folder of the adapter that answers under a name; empty for the base."""
    return Path(str((await ask(url, name))["adapter"] or "")).name


async def look(pool: Pool, num: int = 3) -> None:
    for _ in range(num):
        await pool.controller.look()
        await pool.controller.settle(within_s=10)
        await asyncio.sleep(0.02)


async def test_two_adapters_are_served_beside_their_base_and_unloaded(pool: Pool, base: Version, tmp_path: Path) -> None:
    (before,) = await pool.replicas()
    versions = {name: await pool.adapter(base, tmp_path / name, seed=seed) for seed, name in enumerate(("a", "b"))}
    for name, version in versions.items():
        await pool.attach(name, version)
    for name, version in versions.items():
        route = await pool.until_served(name)
        assert (route.parent, [replica.url for replica in route.replicas]) == ("chat", [before.url])
        assert await folder_answering(route.replicas[0].url, name) == version.manifest_digest
    (replica,) = await pool.replicas()
    assert set(replica.adapter_ids) == {adapter.id for adapter in (await pool.platform.deployment()).adapters}
    assert await folder_answering(route.replicas[0].url, "chat") == ""

    await detach(pool, "a")
    # Gateways that have not heard of it yet are still answered.
    assert await folder_answering(route.replicas[0].url, "a") == versions["a"].manifest_digest

    async def is_unloaded() -> bool:
        (replica,) = await pool.replicas()
        return await listed(replica) == {"b": versions["b"].manifest_digest}

    await pool.until(is_unloaded)
    (after,) = await pool.replicas()
    assert (after.pid, after.num_restarts) == (before.pid, 0)


async def test_a_restarted_engine_loads_its_adapters_again(pool: Pool, base: Version, tmp_path: Path) -> None:
    version = await pool.adapter(base, tmp_path / "a")
    await pool.attach("a", version)
    await pool.until_served("a")
    (before,) = await pool.replicas()
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)

    async def has_failed() -> bool:
        return (await pool.replicas())[0].state is ReplicaState.FAILED

    await pool.until(has_failed)
    assert (await pool.replicas())[0].adapter_ids == []
    assert (await pool.route("a")).replicas == []
    route = await pool.until_served("a")
    (after,) = await pool.replicas()
    assert after.pid != before.pid
    assert await folder_answering(route.replicas[0].url, "a") == version.manifest_digest


async def test_the_next_controller_knows_what_is_loaded_and_goes_on(pool: Pool, base: Version, tmp_path: Path) -> None:
    first = await pool.adapter(base, tmp_path / "a")
    await pool.attach("a", first)
    await pool.until_served("a")
    (before,) = await pool.replicas()
    pool.replace_controller()
    await look(pool)
    assert await pool.replicas() == [before]
    await pool.attach("b", await pool.adapter(base, tmp_path / "b", seed=1))
    await pool.until_served("b")
    (after,) = await pool.replicas()
    assert after.pid == before.pid


async def test_another_version_under_the_same_name_goes_from_replica_to_replica(pool: Pool, tmp_path: Path) -> None:
    base = await pool.version()
    await pool.serving(base, replicas=2, engine=ROOM_FOR_TWO)
    first, second = [await pool.adapter(base, tmp_path / str(seed), seed=seed) for seed in range(2)]
    await pool.attach("a", first)
    await pool.until_served("a", 2)
    await pool.attach("a", second)
    num_routed = []

    async def is_replaced() -> bool:
        num_routed.append(len((await pool.route("a")).replicas))
        return [await listed(replica) for replica in await pool.replicas()] == [{"a": second.manifest_digest}] * 2

    await pool.until(is_replaced)
    assert min(num_routed) == 1
    route = await pool.until_served("a", 2)
    assert [await folder_answering(replica.url, "a") for replica in route.replicas] == [second.manifest_digest] * 2


async def test_a_refused_adapter_says_why_and_the_others_are_served(pool: Pool, base: Version, tmp_path: Path) -> None:
    refused = await pool.adapter(base, tmp_path / "a", alpha=REFUSED_ALPHA)
    of_dora = await pool.adapter(base, tmp_path / "dora", seed=1, kind=AdapterKind.DORA)
    await pool.attach("a", refused)
    messages = await until_refused(pool, "a")
    assert messages["a"] == "replica 0: the engine answered 500: there is no such kernel"
    await pool.attach("b", of_dora)
    messages = await until_refused(pool, "b")
    assert "loads no dora adapters" in messages["b"]
    assert (await pool.route("a")).replicas == []
    await pool.attach("b", await pool.adapter(base, tmp_path / "b", seed=2))
    await pool.until_served("b")
    adapters = {adapter.name: adapter.message for adapter in (await pool.platform.deployment()).adapters}
    assert adapters["b"] is None
    assert adapters["a"] is not None


async def until_refused(pool: Pool, name: str) -> dict[str, str]:
    """Returns the messages of adapters once that of this name has one."""
    found: dict[str, str] = {}

    async def is_refused() -> bool:
        found.update({adapter.name: adapter.message for adapter in (await pool.platform.deployment()).adapters if adapter.message})
        return name in found

    await pool.until(is_refused)
    return found


async def test_a_rollout_of_the_same_base_is_promoted_with_its_adapters(pool: Pool, base: Version, tmp_path: Path) -> None:
    await pool.attach("a", await pool.adapter(base, tmp_path / "a"))
    await pool.until_served("a")
    rollout = await pool.platform.rollout(base, engine=ROOM_FOR_TWO.model_copy(update={"max_num_seqs": 4}))
    without = []

    async def is_over() -> bool:
        without.append(not (await pool.route("a")).replicas)
        return (await pool.job(rollout)).finished_at is not None

    await pool.until(is_over)
    assert (await pool.job(rollout)).status is JobStatus.SUCCEEDED
    # Never did a request for the adapter have nowhere to go, not even as the new release took over.
    assert not any(without)
    (replica,) = (await pool.route("a")).replicas
    assert replica.release_id == rollout.to_release_id


async def test_a_rollout_of_the_same_base_is_promoted_by_a_controller_that_pulled_nothing(
    pool: Pool, base: Version, tmp_path: Path
) -> None:
    await pool.attach("a", await pool.adapter(base, tmp_path / "a"))
    await pool.until_served("a")
    pool.replace_controller()
    await look(pool)
    rollout = await pool.platform.rollout(base, engine=ROOM_FOR_TWO.model_copy(update={"max_num_seqs": 4}))
    assert (await pool.until_finished(rollout)).status is JobStatus.SUCCEEDED
    (replica,) = (await pool.route("a")).replicas
    assert replica.release_id == rollout.to_release_id


async def test_a_rollout_whose_engines_refuse_an_adapter_is_not_promoted(pool: Pool, base: Version, tmp_path: Path) -> None:
    await pool.attach("a", await pool.adapter(base, tmp_path / "a", alpha=REFUSED_ALPHA))
    await until_refused(pool, "a")
    rollout = await pool.platform.rollout(base, engine=ROOM_FOR_TWO, ready_timeout_s=30)
    await pool.platform.sql("update rollouts set ready_deadline_at = now() + interval '3 seconds' where id = %s", rollout.id)

    async def is_up() -> bool:
        await pool.platform.sql("update rollouts set ready_deadline_at = now() + interval '1 second' where state = 'progressing'")
        return any(replica.release_id == rollout.to_release_id and replica.state is ReplicaState.READY for replica in await pool.replicas())

    await pool.until(is_up)
    job = await pool.until_finished(rollout)
    assert job.status is JobStatus.FAILED
    assert job.message is not None
    assert "not every adapter was loaded; a: replica" in job.message


async def test_what_an_engine_was_given_is_kept_for_as_long_as_it_runs(pool: Pool, base: Version, tmp_path: Path) -> None:
    version = await pool.adapter(base, tmp_path / "a")
    await pool.attach("a", version)
    await pool.until_served("a")
    cache = pool.settings.deploy_dir / "cache"
    assert names_in(cache) == {base.manifest_digest, version.manifest_digest}
    await detach(pool, "a")

    async def is_unloaded() -> bool:
        return await listed((await pool.replicas())[0]) == {}

    await pool.until(is_unloaded)
    # vLLM reads an adapter's files again when a request under way comes back to it, and ends where they are gone.
    await pool.driver.prune({base.manifest_digest})
    assert version.manifest_digest in names_in(cache)
    (replica,) = await pool.replicas()
    await pool.driver.kill(replica)
    await pool.driver.prune({base.manifest_digest})
    assert names_in(cache) == {base.manifest_digest}
