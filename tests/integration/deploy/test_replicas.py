"""What becomes of replicas: crashes, silence, stops, and controllers that come and go."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection
from pathlib import Path

import psutil
import pytest

from factories.deploy import Pool, make_controller
from quantry_blobs.errors import StoreUnavailable
from quantry_core.rollouts import ReplicaState
from quantry_deploy import controller
from quantry_deploy.drivers.process import ProcessDriver
from quantry_store.transactions import resume_deployment, stop_deployment


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def stopped(pool: Pool) -> bool:
    return await pool.replicas() == [] and await pool.driver.running() == {}


async def ready(pool: Pool) -> bool:
    return [replica.state for replica in await pool.replicas()] == [ReplicaState.READY]


async def test_a_killed_engine_is_started_again_on_another_process(pool: Pool) -> None:
    await pool.serving(await pool.version())
    (before,) = await pool.replicas()
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)

    async def is_back() -> bool:
        return await ready(pool) and (await pool.replicas())[0].pid != before.pid

    routed_while_down = []

    async def has_failed() -> bool:
        (replica,) = await pool.replicas()
        routed_while_down.append(len((await pool.route()).replicas))
        return replica.state is ReplicaState.FAILED

    await pool.until(has_failed)
    assert routed_while_down[-1] == 0
    (failed,) = await pool.replicas()
    assert failed.message is not None
    assert "SIGKILL" in failed.message
    await pool.until(is_back)
    (after,) = await pool.replicas()
    assert (after.id, after.num_restarts) == (before.id, 1)
    assert [replica.url for replica in (await pool.route()).replicas] == [after.url]


async def test_what_a_dead_engine_leaves_running_is_ended(pool: Pool) -> None:
    await pool.serving(await pool.version("parent"))
    (before,) = await pool.replicas()
    assert before.pid is not None
    (child,) = psutil.Process(before.pid).children()
    os.kill(before.pid, signal.SIGKILL)

    async def is_back() -> bool:
        return await ready(pool) and (await pool.replicas())[0].pid != before.pid

    await pool.until(is_back)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_a_silent_engine_loses_its_route_and_gets_it_back(pool: Pool) -> None:
    await pool.serving(await pool.version())
    (replica,) = await pool.replicas()
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGSTOP)

    async def is_unhealthy() -> bool:
        return [replica.state for replica in await pool.replicas()] == [ReplicaState.UNHEALTHY]

    try:
        await pool.until(is_unhealthy)
        assert (await pool.route()).replicas == []
    finally:
        os.kill(replica.pid, signal.SIGCONT)

    async def is_ready() -> bool:
        return await ready(pool)

    await pool.until(is_ready)
    (after,) = await pool.replicas()
    assert (after.pid, after.num_restarts) == (replica.pid, 0)
    assert len((await pool.route()).replicas) == 1


async def test_a_stopped_deployment_has_no_engine_and_starts_again(pool: Pool) -> None:
    await pool.serving(await pool.version(), replicas=2)
    async with pool.database.begin() as uow:
        await stop_deployment(uow, pool.platform.admin, "chat")
    await pool.until(lambda: stopped(pool))
    async with pool.database.begin() as uow:
        await resume_deployment(uow, pool.platform.admin, "chat")

    async def is_back() -> bool:
        return [replica.state for replica in await pool.replicas()] == [ReplicaState.READY] * 2

    await pool.until(is_back)
    assert len((await pool.route()).replicas) == 2


async def test_an_engine_that_ignores_sigterm_is_killed(pool: Pool) -> None:
    await pool.serving(await pool.version("stubborn"))
    async with pool.database.begin() as uow:
        await stop_deployment(uow, pool.platform.admin, "chat")
    await pool.until(lambda: stopped(pool))


async def test_the_next_controller_adopts_engines_that_run_on(pool: Pool) -> None:
    await pool.serving(await pool.version())
    (before,) = await pool.replicas()
    pool.replace_controller()
    for _ in range(3):
        await pool.controller.look()
        await pool.controller.settle(within_s=10)
    (after,) = await pool.replicas()
    assert after == before


async def test_a_controller_that_ends_stops_its_engines_and_the_next_brings_them_back(pool: Pool) -> None:
    await pool.serving(await pool.version())
    (before,) = await pool.replicas()
    await pool.controller.stop_replicas(within_s=8)
    (between,) = await pool.replicas()
    assert (between.state, between.pid, between.url) == (ReplicaState.STOPPED, None, None)
    assert await pool.driver.running() == {}
    assert (await pool.route()).replicas == []
    pool.replace_controller()
    await pool.until(lambda: ready(pool))
    (after,) = await pool.replicas()
    assert (after.id, after.num_restarts) == (before.id, 0)
    assert after.pid != before.pid


async def test_a_rollout_goes_on_after_a_restart_with_its_whole_time_again(pool: Pool) -> None:
    rollout = await pool.platform.rollout(await pool.version())

    async def is_starting() -> bool:
        return [replica.state for replica in await pool.replicas()] == [ReplicaState.STARTING]

    await pool.until(is_starting)
    await pool.controller.stop_replicas(within_s=8)
    # The stack was down for longer than the rollout may take.
    await pool.platform.sql(
        "UPDATE rollouts SET created_at = now() - interval '700 s', ready_deadline_at = now() - interval '100 s' WHERE id = %s", rollout.id
    )
    pool.replace_controller()
    job = await pool.until_finished(rollout)
    assert job.status == "succeeded", job.message


async def test_an_engine_that_no_record_knows_is_ended(pool: Pool) -> None:
    await pool.serving(await pool.version())
    (replica,) = await pool.replicas()
    assert replica.pid is not None
    # As if the controller had been killed and the record removed by hand.
    await pool.platform.sql("DELETE FROM replicas WHERE id = %s", replica.id)
    pool.replace_controller()

    async def is_replaced() -> bool:
        return await ready(pool) and replica.id not in await pool.driver.running()

    await pool.until(is_replaced)


async def test_an_engine_started_but_not_recorded_is_recorded_not_started_twice(pool: Pool) -> None:
    await pool.serving(await pool.version())
    (replica,) = await pool.replicas()
    # As if the controller had been killed between the start and its record.
    await pool.platform.sql(
        "UPDATE replicas SET state = 'pulling', pid = NULL, pid_started_at = NULL, url = NULL WHERE id = %s", replica.id
    )
    pool.replace_controller()
    await pool.until(lambda: ready(pool))
    (after,) = await pool.replicas()
    assert (after.pid, after.url) == (replica.pid, replica.url)
    assert {id_: len(pids) for id_, pids in (await pool.driver.running()).items()} == {replica.id: 1}


async def test_another_directorys_engines_are_left_alone(pool: Pool) -> None:
    await pool.serving(await pool.version())
    elsewhere = pool.settings.model_copy(update={"deploy_dir": pool.settings.deploy_dir.parent / "elsewhere"})
    _, driver = make_controller(elsewhere, pool.database, pool.vault)
    assert await driver.running() == {}
    await driver.stop_all(within_s=1)
    await driver.close()
    assert await ready(pool)
    (replica,) = await pool.replicas()
    assert psutil.pid_exists(replica.pid or 0)


async def test_files_of_versions_that_nobody_serves_are_forgotten(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    version = await pool.version()
    await pool.serving(version)
    cache = pool.settings.deploy_dir / "cache"

    def litter() -> None:
        (cache / ("0" * 64)).mkdir()
        (cache / ".incoming-1").mkdir()
        (cache / "model.safetensors.0a1b2c3d.part").touch()

    litter()
    pool.replace_controller()
    await pool.controller.look()
    assert names_in(cache) == [version.manifest_digest]
    # And again while it runs, once that is due.
    litter()
    await pool.controller.look()
    assert len(names_in(cache)) == 4
    monkeypatch.setattr(controller, "TIDY_INTERVAL_S", 0.0)
    pool.replace_controller()
    await pool.controller.look()
    litter()
    await pool.controller.look()
    assert names_in(cache) == [version.manifest_digest]


async def test_a_tidying_that_fails_is_done_again_and_holds_nobody_up(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = await pool.platform.rollout(await pool.version())
    num_failures = 0

    async def fail_twice(driver: ProcessDriver, manifest_digests: Collection[str]) -> None:
        nonlocal num_failures
        num_failures += 1
        if num_failures <= 2:
            raise StoreUnavailable("away")
        await prune(driver, manifest_digests)

    prune = ProcessDriver.prune
    monkeypatch.setattr(ProcessDriver, "prune", fail_twice)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await pool.controller.look()
    await pool.controller.settle(within_s=10)
    # Both looks have gone on with the rollout all the same: its files are here, and it is about to begin.
    assert names_in(pool.settings.deploy_dir / "cache") != []
    await pool.until_finished(rollout)
    assert num_failures == 3


async def test_an_engine_whose_deployment_is_locked_is_no_stray(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "TIDY_INTERVAL_S", 0.0)
    version = await pool.version()
    await pool.serving(version)
    (before,) = await pool.replicas()
    pool.replace_controller()
    async with pool.database.begin() as uow:
        # As while somebody submits a rollout.
        await uow.deployments.lock(pool.platform.project_id, "chat")
        await pool.controller.look()
    assert set(await pool.driver.running()) == {before.id}
    for _ in range(3):
        await pool.controller.look()
        await pool.controller.settle(within_s=10)
    assert await pool.replicas() == [before]


async def test_an_engine_that_never_completes_holds_up_no_pass(pool: Pool) -> None:
    rollout = await pool.platform.rollout(await pool.version("mute"))

    async def is_starting() -> bool:
        return [replica.state for replica in await pool.replicas()] == [ReplicaState.STARTING]

    await pool.until(is_starting)
    (replica,) = await pool.replicas()
    assert replica.pid is not None

    async def answers() -> bool:
        return (await pool.driver.probe(replica, "chat")).answers

    async with asyncio.timeout(10):
        await pool.until(answers)
        os.kill(replica.pid, signal.SIGKILL)

        async def has_failed() -> bool:
            return (await pool.replicas())[0].num_restarts > 0

        await pool.until(has_failed)
        await pool.cancel(rollout)
        assert (await pool.until_finished(rollout)).status == "cancelled"
        await pool.until(lambda: stopped(pool))


async def test_engines_are_reached_by_the_name_that_the_settings_give_their_host(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.driver, "_settings", pool.driver._settings.model_copy(update={"engine_host": "localhost"}))
    await pool.serving(await pool.version())
    (replica,) = await pool.replicas()
    assert replica.url is not None
    assert replica.url.startswith("http://localhost:")
    assert [replica.url for replica in (await pool.route()).replicas] == [replica.url]
    words = psutil.Process(replica.pid).cmdline()
    assert words[words.index("--host") + 1] == "127.0.0.1", "they listen on that address, and on no other"
