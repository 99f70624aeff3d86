"""What a queue is told to hold. The database is a small fake: no socket is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast

import httpx
import pytest

from quantry_api.demand import router
from quantry_core.jobs import JobStatus, QueueClass
from quantry_http.app import create_app
from quantry_store.database import Database
from quantry_store.repositories.counts import QueueCount

COUNTS = [
    QueueCount("gpu", JobStatus.QUEUED, 3),
    QueueCount("gpu", JobStatus.RUNNING, 2),
    QueueCount("gpu", JobStatus.WAITING, 40),
    QueueCount("cpu", JobStatus.QUEUED, 7),
    QueueCount(None, JobStatus.RUNNING, 1),
]


class FakeDatabase:
    """Holds jobs in two queues, and a deploy job that is in none."""

    async def ping(self) -> None: ...

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SimpleNamespace]:
        async def unfinished_jobs() -> list[QueueCount]:
            return COUNTS

        yield SimpleNamespace(counts=SimpleNamespace(unfinished_jobs=unfinished_jobs))


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app("test", database=cast(Database, FakeDatabase()))
    queues = [QueueClass(name="cpu"), QueueClass(name="gpu"), QueueClass(name="gpu-80g")]
    app.state.api = SimpleNamespace(settings=SimpleNamespace(queues=queues))
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as one:
        yield one


@pytest.mark.parametrize(
    ("queue", "num_queued", "num_running"),
    [("gpu", 3, 2), ("cpu", 7, 0), ("gpu-80g", 0, 0)],
    ids=["what waits for others does not count", "of its own alone", "nothing to do"],
)
async def test_a_queue_holds_what_is_queued_and_what_runs(client: httpx.AsyncClient, queue: str, num_queued: int, num_running: int) -> None:
    answer = await client.get(f"/internal/v1/demand/{queue}")
    assert answer.status_code == 200
    assert answer.json() == {"queue": queue, "num_queued": num_queued, "num_running": num_running, "num_jobs": num_queued + num_running}


async def test_a_queue_that_is_not_here_is_no_queue_with_nothing_to_do(client: httpx.AsyncClient) -> None:
    assert (await client.get("/internal/v1/demand/gpu-40g")).status_code == 404
    assert (await client.get("/internal/v1/demand/party")).status_code == 422
