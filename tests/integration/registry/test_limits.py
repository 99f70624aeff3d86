"""What a registry answers when it has as much to do as it can, or no room."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import threading
from typing import BinaryIO
from urllib.parse import urlsplit

import httpx
import pytest

from factories.registry import Registry, served
from quantry_blobs.stores import Stored
from quantry_core.keys import Role
from quantry_registry.app import make_app
from quantry_registry.uploads.slots import UploadSlots
from quantry_store.database import Database

TEXT = b"some words that are enough for a dataset of text\n" * 20


async def stall(url: str, beginning: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Sends the beginning of a request, and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    writer.write(beginning.encode())
    await writer.drain()
    return reader, writer


async def test_a_full_disk_is_told_to_whoever_sends_a_dataset(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("quantry_registry.datasets.service._take", no_room)
    async with registry.client(Role.OPERATOR) as client:
        answer = await client.put("/api/v1/datasets/words", content=TEXT)
    assert (answer.status_code, answer.json()["type"]) == (507, "urn:quantry:problem:disk-full"), answer.text


async def test_stalled_uploads_stop_nothing_else_and_end(registry: Registry, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = registry.parts.settings.model_copy(update={"upload_idle_s": 4.0})
    parts = dataclasses.replace(registry.parts, settings=settings, upload_slots=UploadSlots(2))
    put_stream, begun = parts.vault.put_stream, threading.Semaphore(0)

    def tell_and_put(stream: BinaryIO, max_bytes: int | None = None) -> Stored:
        begun.release()
        return put_stream(stream, max_bytes)

    monkeypatch.setattr(parts.vault, "put_stream", tell_and_put)

    headers = {"Authorization": f"Bearer {registry.secrets[Role.OPERATOR]}"}
    async with (
        served(make_app(Database(database_url), parts, built_ins=())) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client,
    ):
        upload_id = (await client.post("/api/v1/uploads")).json()["id"]

        def file(name: str) -> str:
            return f"/api/v1/uploads/{upload_id}/files/{name}.json"

        head = f"host: x\r\nauthorization: {headers['Authorization']}\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{{\r\n"
        sending = [await stall(url, f"PUT {file(name)} HTTP/1.1\r\n{head}") for name in ("a", "b")]
        for _ in sending:
            assert await asyncio.to_thread(begun.acquire, timeout=20)
        refused = await client.put(file("c"), content=b"{}")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2"), refused.text
        assert "2 files are being uploaded" in refused.json()["detail"]
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.put("/api/v1/datasets/words", content=TEXT)).status_code == 201
        assert (await client.get("/api/v1/datasets/words/content")).content == TEXT
        for reader, writer in sending:
            answer = await reader.readuntil(b"}")
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"urn:quantry:problem:body-stalled" in answer
            writer.close()
        assert (await client.put(file("c"), content=b"{}")).status_code == 200
    assert list(registry.parts.store.list(registry.parts.vault.bucket, "incoming/")) == []
