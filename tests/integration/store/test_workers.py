"""Workers: what they say of themselves, when they count as gone, and the toolchains a queue has."""

from __future__ import annotations

from typing import Any

from factories.store import TOOLCHAIN, WORKER_ID, Platform, import_spec
from quantry_core.methods import Environment
from quantry_core.workers import WORKER_ALIVE_S, Device, WorkerHello
from quantry_store.repositories.workers import SAME_TOOLCHAIN_S
from quantry_store.transactions import save_worker

OTHER_ID = "wrk_" + "1" * 32


def hello(**changes: Any) -> WorkerHello:
    values = {"host": "a", "pid": 2**33, "version": "0.2", "queues": ["cpu"], "num_slots": 2, "environments": {Environment.ML: TOOLCHAIN}}
    return WorkerHello.model_validate({**values, **changes})


async def say(platform: Platform, worker_id: str = WORKER_ID, **changes: Any) -> None:
    async with platform.database.begin() as uow:
        await save_worker(uow, worker_id, hello(**changes), project_id=platform.project_id)


async def age(platform: Platform, worker_id: str, seconds: float) -> None:
    await platform.sql("update workers set last_seen_at = now() - %s * interval '1 second' where id = %s", seconds, worker_id)


async def test_worker_is_as_it_last_said(platform: Platform) -> None:
    await say(platform)
    ((started_at,),) = await platform.sql("select started_at from workers")
    device = Device(id="GPU-1", name="H200", memory_bytes=2**37)
    await say(platform, queues=["gpu", "gpu-80g"], devices=[device], memory_bytes=2**34)
    async with platform.database.begin() as uow:
        (worker,) = await uow.workers.list()
    assert (worker.id, worker.host, worker.pid, worker.queues) == (WORKER_ID, "a", 2**33, ["gpu", "gpu-80g"])
    assert (worker.devices, worker.memory_bytes, worker.environments) == ([device], 2**34, {Environment.ML: TOOLCHAIN})
    assert worker.started_at == started_at
    assert worker.last_seen_at > started_at


async def test_worker_that_is_silent_counts_as_gone(platform: Platform) -> None:
    await say(platform)
    await say(platform, OTHER_ID, host="b")
    await age(platform, OTHER_ID, WORKER_ALIVE_S + 1)
    async with platform.database.begin() as uow:
        assert [(worker.id, worker.is_alive) for worker in await uow.workers.list()] == [(WORKER_ID, True), (OTHER_ID, False)]
    await say(platform, OTHER_ID, host="b")
    async with platform.database.begin() as uow:
        assert [worker.is_alive for worker in await uow.workers.list()] == [True, True]


async def test_worker_shows_what_it_runs(platform: Platform, stranger: Platform) -> None:
    await say(platform)
    await say(platform, OTHER_ID, host="b")
    mine, theirs = await platform.running(import_spec()), await stranger.running(import_spec())
    await platform.submit(import_spec())
    async with platform.database.begin() as uow:
        assert [worker.job_ids for worker in await uow.workers.list()] == [[mine.id, theirs.id], []]
        assert [worker.job_ids for worker in await uow.workers.list(stranger.project_id)] == [[theirs.id], []]


async def test_toolchains_of_a_queue(platform: Platform) -> None:
    other, old = "b" * 64, "c" * 64
    await say(platform)
    await say(platform, OTHER_ID, queues=["cpu", "cpu-large"], environments={Environment.ML: other})
    await say(platform, "wrk_" + "2" * 32, environments={Environment.ML: old})
    await age(platform, "wrk_" + "2" * 32, SAME_TOOLCHAIN_S + 1)
    await say(platform, "wrk_" + "3" * 32, environments={})
    await age(platform, WORKER_ID, WORKER_ALIVE_S + 1)
    async with platform.database.begin() as uow:
        assert await uow.workers.toolchains("cpu", Environment.ML) == {TOOLCHAIN, other}
        assert await uow.workers.toolchains("cpu-large", Environment.ML) == {other}
        assert await uow.workers.toolchains("gpu", Environment.ML) == set()
