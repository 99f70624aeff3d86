"""The background loop on a real database and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import redis

from quantry_api.sweeps import Sweeper
from quantry_api.wake import MAX_WAITING_MESSAGES, Waker
from quantry_core.jobs import MAX_LOST_ATTEMPTS, Queue
from quantry_core.keys import Role

from .conftest import Api


async def expire_leases(database_url: str) -> None:
    """Makes every lease run out, as if its worker had been silent for long."""
    address = database_url.replace("postgresql+psycopg://", "postgresql://")
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        await connection.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE lease_expires_at IS NOT NULL")


@pytest.fixture
async def waker(redis_url: str) -> AsyncIterator[Waker]:
    waker = Waker(redis_url)
    yield waker
    waker.close()


def num_messages(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.llen("cpu"))


async def test_a_lost_worker_costs_an_attempt_and_the_queue_is_woken(api: Api, waker: Waker, redis_url: str, database_url: str) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    sweeper = Sweeper(api.database, waker.wake, interval_s=1)
    await sweeper.sweep()
    assert (await api.show(job))["status"] == "running"
    assert num_messages(redis_url) == 0
    await expire_leases(database_url)
    await sweeper.sweep()
    shown = await api.show(job)
    assert (shown["status"], shown["reason"], shown["num_lost_attempts"]) == ("queued", "worker_lost", 1)
    assert num_messages(redis_url) == 1
    assert (await api.execute(lease, "heartbeat")).status_code == 409


async def test_after_three_lost_workers_a_job_is_poison(api: Api, waker: Waker, database_url: str) -> None:
    job = await api.submit_import()
    sweeper = Sweeper(api.database, waker.wake, interval_s=1)
    for _ in range(MAX_LOST_ATTEMPTS):
        assert await api.claim() is not None
        await expire_leases(database_url)
        await sweeper.sweep()
    shown = await api.show(job)
    assert (shown["status"], shown["reason"], shown["attempt"]) == ("failed", "poison", 3)
    assert await api.claim() is None


async def test_the_loop_wakes_a_queue_whose_message_was_lost(api: Api, waker: Waker, redis_url: str) -> None:
    await api.submit_import()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    woken_twice = asyncio.Event()

    async def wake(queue: Queue) -> bool:
        was_sent = await waker.wake(queue)
        if num_messages(redis_url) == 2:
            woken_twice.set()
        return was_sent

    sweeping = asyncio.create_task(Sweeper(api.database, wake, interval_s=0.05).run())
    await asyncio.wait_for(woken_twice.wait(), 5)
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping


async def test_messages_do_not_pile_up_while_no_worker_runs(waker: Waker, redis_url: str) -> None:
    for _ in range(MAX_WAITING_MESSAGES + 5):
        assert await waker.wake(Queue.CPU)
    assert num_messages(redis_url) == MAX_WAITING_MESSAGES


async def test_a_broker_that_is_away_is_a_false_and_no_more() -> None:
    waker = Waker("redis://127.0.0.1:1/0")
    started = asyncio.get_running_loop().time()
    assert await waker.wake(Queue.CPU) is False
    assert asyncio.get_running_loop().time() - started < 2
    waker.close()


async def test_the_api_is_well_without_its_broker(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("CLIENT", "PAUSE", 2000, "ALL")
    assert (await api[Role.VIEWER].get("/healthz")).json() == {"status": "ok"}
