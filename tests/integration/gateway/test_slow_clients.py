"""Clients that send slowly, too much, or never read: a gateway under a real server waits for them for a while and no longer."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from factories.gateway import DONE, KEY, StartEngines, StartRouted, chat_event, route, serving, until_any
from quantry_gateway.outcomes import OutcomeKind

WAIT_S = "0.4"
ASK = {"model": "bard", "prompt": "To be", "stream": True}
FIELDS = f"host: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_TIMEOUT_S", "BODY_TIMEOUT_S", "BODY_STALL_S", "READ_STALL_S"):
        monkeypatch.setenv(f"QUANTRY_HTTP_{name}", WAIT_S)
    monkeypatch.setenv("QUANTRY_HTTP_MAX_HEAD_BYTES", "8192")


async def say(url: str, beginning: str) -> bytes:
    """Sends the beginning of a request and no more; returns the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    writer.write(beginning.encode())
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_what_does_not_come_is_not_waited_for(start_engines: StartEngines, start_routed: StartRouted, stack: AsyncExitStack) -> None:
    broken_off = asyncio.Event()

    async def take(request: web.Request) -> web.StreamResponse:
        try:
            await request.read()
        finally:
            broken_off.set()
        return web.Response()

    registry_url = await stack.enter_async_context(serving(take))
    gateway = await start_routed(registry_url=registry_url)
    silent, head, huge, body, upload = await asyncio.gather(
        say(gateway.url, ""),
        say(gateway.url, "GET /v1/models HTTP/1.1\r\nhost: x\r\n"),
        say(gateway.url, "GET /v1/models HTTP/1.1\r\n" + "x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 300),
        say(gateway.url, f"POST /v1/completions HTTP/1.1\r\n{FIELDS}content-length: 100\r\n\r\n{{"),
        say(gateway.url, f"PUT /api/v1/datasets/a HTTP/1.1\r\n{FIELDS}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n"),
    )
    assert silent == b""
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"urn:quantry:problem:head-timeout" in head
    assert huge.startswith(b"HTTP/1.1 431 ")
    assert b"8192 bytes" in huge
    assert body.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_stalled"
    assert upload.startswith(b"HTTP/1.1 408 ")
    assert b"urn:quantry:problem:body-stalled" in upload
    await asyncio.wait_for(broken_off.wait(), 2)


async def test_a_client_that_does_not_read_gives_its_turn_back(start_engines: StartEngines, start_routed: StartRouted) -> None:
    stopped = asyncio.Event()

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(chat_event("x" * 60_000))
        finally:
            stopped.set()

    [engine] = await start_engines(flood)
    gateway = await start_routed(route("bard", engine.url))
    asked = json.dumps(ASK)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", urlsplit(gateway.url).port))
        client.sendall(f"POST /v1/completions HTTP/1.1\r\n{FIELDS}content-length: {len(asked)}\r\n\r\n{asked}".encode())
        await asyncio.wait_for(stopped.wait(), 10)
        await until_any(gateway.outcomes)
    assert [kind for _, kind in gateway.told()] == [OutcomeKind.GIVEN_UP]


async def test_a_stream_that_waits_for_its_engine_is_not_taken_for_a_client_that_does_not_read(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    async def think(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_event("x" * 200_000))
        await asyncio.sleep(1.0)
        await response.write(DONE)
        return response

    [engine] = await start_engines(think)
    gateway = await start_routed(route("bard", engine.url))
    async with http.post(f"{gateway.url}/v1/completions", json=ASK) as answer:
        assert (await answer.read()).endswith(DONE)
    async with http.post(
        f"{gateway.url}/v1/completions", data=gzip.compress(json.dumps(ASK).encode()), headers={"content-encoding": "gzip"}
    ) as refused:
        assert (refused.status, (await refused.json())["error"]["code"]) == (415, "unsupported_encoding")
