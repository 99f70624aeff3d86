"""The background loop on a real database and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier
from structlog.testing import capture_logs

from quantry_api import sweeps
from quantry_api.sweeps import Sweeper
from quantry_api.wake import Waker
from quantry_core.celery_settings import MAX_WAITING_WAKES
from quantry_core.jobs import CPU_QUEUE, MAX_LOST_ATTEMPTS, Queue
from quantry_core.keys import Role
from quantry_store.unit_of_work import UnitOfWork

from .conftest import Api, until


async def expire_leases(database_url: str) -> None:
    """Makes every lease run out, as if its worker had been silent for long."""
    address = database_url.replace("postgresql+psycopg://", "postgresql://")
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        await connection.execute("UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE lease_expires_at IS NOT NULL")


async def change_job(database_url: str, job: dict[str, Any], **columns: str) -> None:
    """Writes columns of a job by hand, as another release would have."""
    address = database_url.replace("postgresql+psycopg://", "postgresql://")
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        for column, value in columns.items():
            await connection.execute(SQL("UPDATE jobs SET {} = %s WHERE id = %s").format(Identifier(column)), (value, job["id"]))


@pytest.fixture
async def waker(redis_url: str) -> AsyncIterator[Waker]:
    waker = Waker(redis_url)
    yield waker
    waker.close()


def sent(redis_url: str, num_sent: int) -> Callable[[], Awaitable[bool]]:
    """Returns a question: have so many messages arrived?"""

    async def have_arrived() -> bool:
        return num_messages(redis_url) >= num_sent

    return have_arrived


async def lose_messages(redis_url: str, num_sent: int) -> None:
    """Empties the broker once the messages of so many submissions have arrived: nobody waits for them."""
    await until(sent(redis_url, num_sent))
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()


def num_messages(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.llen("cpu"))


async def test_a_lost_worker_costs_an_attempt_and_the_queue_is_woken(api: Api, waker: Waker, redis_url: str, database_url: str) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    await lose_messages(redis_url, 1)
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


async def test_one_unreadable_job_keeps_back_no_other(api: Api, waker: Waker, redis_url: str, database_url: str) -> None:
    unreadable, unknown, lost = [await api.submit_import(model) for model in ("one", "two", "three")]
    for _ in range(3):
        assert await api.claim() is not None
    await expire_leases(database_url)
    await change_job(database_url, unreadable, spec="{}")
    await change_job(database_url, unknown, type="distill")
    await lose_messages(redis_url, 3)
    with capture_logs() as lines:
        await Sweeper(api.database, waker.wake, interval_s=1).sweep()
    assert [line["job_id"] for line in lines if line["event"] == "sweep.job_skipped"] == [unknown["id"]]
    assert (await api.show(lost))["status"] == "queued"
    assert num_messages(redis_url) == 1
    again = await api.claim()
    assert again is not None
    assert again["job"]["id"] == lost["id"]


async def test_queues_are_woken_though_the_leases_cannot_be_swept(
    api: Api, waker: Waker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.submit_import()
    await lose_messages(redis_url, 1)

    async def broken(_uow: UnitOfWork) -> list[str]:
        raise ValueError("broken")

    monkeypatch.setattr(sweeps, "expired_jobs", broken)
    with pytest.raises(ValueError, match="broken"):
        await Sweeper(api.database, waker.wake, interval_s=1).sweep()
    assert num_messages(redis_url) == 1


async def test_the_loop_wakes_a_queue_whose_message_was_lost(api: Api, waker: Waker, redis_url: str) -> None:
    await api.submit_import()
    await lose_messages(redis_url, 1)
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
    for _ in range(MAX_WAITING_WAKES + 5):
        assert await waker.wake(CPU_QUEUE)
    assert num_messages(redis_url) == MAX_WAITING_WAKES


async def test_a_broker_that_is_away_is_a_false_and_no_more() -> None:
    waker = Waker("redis://127.0.0.1:1/0")
    started = asyncio.get_running_loop().time()
    assert await waker.wake(CPU_QUEUE) is False
    assert asyncio.get_running_loop().time() - started < 2
    waker.close()


async def test_the_api_is_well_without_its_broker(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("CLIENT", "PAUSE", 2000, "ALL")
    assert (await api[Role.VIEWER].get("/healthz")).json() == {"status": "ok"}


async def test_a_nudge_releases_what_waited_for_a_job_that_ended(api: Api, waker: Waker) -> None:
    """The conftest's api sweeps once an hour: what goes on at once does so by a nudge."""
    await api.make_dataset()
    imported = await api.submit_import("one")
    spec = {"type": "import", "model": "two", "source": imported["spec"]["source"]}
    response = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec, "needs": [imported["id"]]})
    dependent = response.json()
    assert (dependent["status"], dependent["waiting_on"]) == ("waiting", "needs")
    lease = await api.claim()
    assert lease is not None
    draft = await api.master_draft(lease, "one")
    await api.execute(lease, "finish", outcome="succeeded", reason="completed", version=draft)

    async def is_released() -> bool:
        return bool((await api.show(dependent))["status"] == "queued")

    await until(is_released)


async def test_a_sweep_wakes_a_slot_for_each_job(api: Api, waker: Waker, redis_url: str) -> None:
    for number in range(3):
        await api.submit_import(f"model-{number}")
    await lose_messages(redis_url, 3)
    await Sweeper(api.database, waker.wake, interval_s=1).sweep()
    assert num_messages(redis_url) == 3


async def test_requests_do_not_wait_for_the_message(waker: Waker, redis_url: str) -> None:
    waker.soon(CPU_QUEUE)
    await until(sent(redis_url, 1))


async def test_a_connection_that_the_broker_dropped_costs_no_message(waker: Waker, redis_url: str) -> None:
    waker.soon(CPU_QUEUE)
    # The first one of a process imports what it needs, and may take longer than a wake waits.
    await until(sent(redis_url, 1))
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert await waker.wake(CPU_QUEUE)
    assert num_messages(redis_url) == 2


async def test_a_broker_that_is_away_is_left_alone_for_a_moment() -> None:
    not_sent: list[None] = []
    waker = Waker("redis://127.0.0.1:1/0", on_not_sent=lambda: not_sent.append(None))
    assert await waker.wake(CPU_QUEUE) is False
    with capture_logs() as lines:
        for _ in range(1000):
            waker.soon(CPU_QUEUE)
    assert lines == []
    assert len(not_sent) == 1001
    waker.close()
