"""What only the asynchronous client can get wrong: cancelling, leaving early, many at once, files beside the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from factories.client import (
    DATASET_BYTES,
    DATASET_ID,
    JOB_ID,
    KEY,
    MASTER_ID,
    URL,
    Answer,
    Breaking,
    FakeServer,
    Pieces,
    answer,
    dataset,
    event,
    event_bytes,
    event_stream,
    failing,
    job,
    page,
    problem,
    succeeded,
    version,
)
from quantry import ApiError, AsyncClient, DownloadDamaged, ServerUnreachable, WaitTimedOut
from quantry_core.jobs import EventKind, ImportSpec, JobStatus

JOB = f"/api/v1/jobs/{JOB_ID}"
EVENTS = f"{JOB}/events"
SPEC = ImportSpec(model="bard", source="/models/bard")
END = event(3, EventKind.STATE, status="succeeded")


class Endless(httpx.AsyncByteStream):
    """A stream that sends its pieces and then nothing for ever; it knows whether it was closed."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.is_closed = True


def arriving(content: bytes) -> Answer:
    """Returns an answer whose body arrives in two pieces."""
    return lambda _request: httpx.Response(200, stream=Pieces(content[:1], content[1:]))


async def test_it_submits_under_one_key_and_reads_the_answer() -> None:
    server = FakeServer()
    server.on("POST", "/api/v1/jobs", failing(httpx.ReadError), problem(429, "too-many", "slowly", retry_after="2"), answer(job(), 201))
    async with server.async_client() as client:
        assert await client.jobs.submit(SPEC) == job()
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert len(server.requests) == 3
    assert 2.0 <= server.slept_s[1] <= 2.2


async def test_a_refusal_and_an_absent_server_are_the_same_exceptions() -> None:
    server = FakeServer()
    server.on("GET", JOB, problem(404, "not-found", "no such job"))
    server.on("GET", "/api/v1/jobs", failing(httpx.ConnectError))
    async with server.async_client() as client:
        with pytest.raises(ApiError, match="no such job"):
            await client.jobs.get(JOB_ID)
        with pytest.raises(ServerUnreachable):
            await client.jobs.list()


async def test_many_at_once_share_one_client() -> None:
    reached, num_together, together = 0, 0, asyncio.Event()

    async def handle(_request: httpx.Request) -> httpx.Response:
        nonlocal reached, num_together
        reached += 1
        num_together = max(num_together, reached)
        if reached == 5:
            together.set()
        await together.wait()
        return httpx.Response(200, content=job().model_dump_json())

    async with AsyncClient(URL, KEY, transport=httpx.MockTransport(handle)) as client:
        found = await asyncio.gather(*(client.jobs.get(JOB_ID) for _ in range(5)))
    assert (len(found), num_together) == (5, 5)


async def test_a_request_that_hangs_is_cancelled_at_once() -> None:
    begun, was_cancelled = asyncio.Event(), False

    async def hang(_request: httpx.Request) -> httpx.Response:
        nonlocal was_cancelled
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled = True
            raise
        raise AssertionError("nothing sets it")

    async with AsyncClient(URL, KEY, transport=httpx.MockTransport(hang)) as client:
        task = asyncio.create_task(client.jobs.get(JOB_ID))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert was_cancelled
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.jobs.get(JOB_ID)


async def test_events_are_taken_up_again_where_they_broke() -> None:
    server = FakeServer()
    first = event(1, EventKind.NOTE, text="one")
    broken = lambda _request: httpx.Response(200, stream=Breaking(event_bytes(first)))  # noqa: E731
    server.on("GET", EVENTS, broken, event_stream(event(2, EventKind.NOTE, text="two"), END))
    async with server.async_client() as client:
        assert [one.seq async for one in client.jobs.events(JOB_ID)] == [1, 2, 3]
    assert [request.headers["last-event-id"] for request in server.requests] == ["0", "1"]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_who_leaves_a_stream_closes_its_connection(is_cancelled: bool) -> None:
    stream = Endless(event_bytes(event(1, EventKind.NOTE, text="one")))
    server = FakeServer()
    server.on("GET", EVENTS, lambda _request: httpx.Response(200, stream=stream))
    seen = asyncio.Event()

    async def follow(client: AsyncClient) -> None:
        async with aclosing(client.jobs.events(JOB_ID)) as events:
            async for _ in events:
                seen.set()
                if not is_cancelled:
                    return

    async with server.async_client() as client:
        task = asyncio.create_task(follow(client))
        await seen.wait()
        if is_cancelled:
            task.cancel()
        await asyncio.wait([task])
    assert stream.is_closed
    assert task.cancelled() is is_cancelled


async def test_it_waits_for_an_end_or_for_so_long() -> None:
    server = FakeServer()
    server.on("GET", JOB, answer(job(JobStatus.RUNNING)), answer(succeeded()))
    async with server.async_client() as client:
        assert (await client.jobs.wait(JOB_ID)).status is JobStatus.SUCCEEDED
        server.on("GET", JOB, answer(job(JobStatus.RUNNING)))
        with pytest.raises(WaitTimedOut):
            await client.jobs.wait(JOB_ID, timeout_s=0.0)


async def test_pages_are_walked_along_and_asked_for_when_they_are_needed() -> None:
    server = FakeServer()
    other = job(id="job_0197f0a0000070008000000000000009")
    server.on("GET", "/api/v1/jobs", page(job(), has_more=True), page(other))
    async with server.async_client() as client:
        jobs = client.jobs.iterate(status=JobStatus.QUEUED)
        assert (await anext(jobs)).id == JOB_ID
        assert len(server.requests) == 1
        assert [one.id async for one in jobs] == [other.id]
    assert [dict(request.url.params) for request in server.requests] == [
        {"limit": "100", "status": "queued"},
        {"after": JOB_ID, "limit": "100", "status": "queued"},
    ]


async def test_a_dataset_is_sent_again_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "plays.jsonl"
    path.write_bytes(DATASET_BYTES)
    bodies: list[bytes] = []
    sent: list[int] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(await request.aread())
        if len(bodies) == 1:
            raise httpx.ReadError("lost", request=request)
        return httpx.Response(201, content=dataset().model_dump_json())

    async def no_pause(_seconds: float) -> None:
        return None

    async with AsyncClient(URL, KEY, transport=httpx.MockTransport(handle), sleep=no_pause) as client:
        assert (await client.datasets.upload("plays", path, progress=sent.append)).id == DATASET_ID
    assert bodies == [DATASET_BYTES] * 2
    assert sum(sent) == len(DATASET_BYTES)


async def test_a_version_is_exported_with_its_digests_checked(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": bytes(1000)}
    master = version(files)
    server = FakeServer()
    server.on("GET", f"/api/v1/versions/{MASTER_ID}", answer(master))
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/card", lambda _request: httpx.Response(200, text="# card"))
    for name, content in files.items():
        server.on("GET", f"/api/v1/versions/{MASTER_ID}/files/{name}", arriving(content))
    async with server.async_client() as client:
        paths = await client.versions.export(MASTER_ID, tmp_path / "out")
        assert {path.name: hashlib.sha256(path.read_bytes()).digest() for path in paths if path.name in files} == {
            name: hashlib.sha256(content).digest() for name, content in files.items()
        }
        server.on("GET", f"/api/v1/versions/{MASTER_ID}/files/config.json", arriving(b"[]"))
        with pytest.raises(DownloadDamaged):
            await client.versions.export(MASTER_ID, tmp_path / "other")


async def test_the_bytes_of_a_file_come_as_they_are_read() -> None:
    server = FakeServer()
    server.on("GET", f"/api/v1/datasets/{DATASET_ID}", answer(dataset()))
    server.on("GET", f"/api/v1/datasets/{DATASET_ID}/content", arriving(DATASET_BYTES))
    async with server.async_client() as client, client.datasets.content(DATASET_ID) as content:
        assert b"".join([piece async for piece in content.pieces]) == DATASET_BYTES
