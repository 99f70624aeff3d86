"""Forwarding to api and registry, and what never is forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from factories.gateway import Handler, gateway_settings, running_gateway, serving, until, until_any


@dataclass
class Service:
    """A service that tells what it was asked, and remembers every path."""

    name: str
    behave: Handler | None = None
    paths: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        if request.path.startswith("/internal"):
            return web.Response(status=404)
        if self.behave is not None:
            return await self.behave(request)
        body = (await request.read()).decode()
        headers = {name.lower(): value for name, value in request.headers.items()}
        return web.json_response({"by": self.name, "method": request.method, "path": request.raw_path, "headers": headers, "body": body})


@dataclass
class Platform:
    url: str
    api: Service
    registry: Service

    @property
    def forwarded(self) -> list[str]:
        """Every path a service saw, the gateway's own polls left out."""
        return [path for path in self.api.paths + self.registry.paths if not path.startswith("/internal/v1/routes?")]


@pytest.fixture
async def platform(stack: AsyncExitStack, tmp_path: Path) -> Platform:
    api, registry = Service("api"), Service("registry")
    api_url = await stack.enter_async_context(serving(api.handle))
    registry_url = await stack.enter_async_context(serving(registry.handle))
    settings = gateway_settings(tmp_path, api_url, registry_url=registry_url)
    return Platform(await stack.enter_async_context(running_gateway(settings)), api, registry)


async def test_each_noun_goes_to_its_service_with_everything_it_carries(platform: Platform, http: aiohttp.ClientSession) -> None:
    async def ask(method: str, path: str, **more: Any) -> dict[str, object]:
        async with http.request(method, URL(platform.url + path, encoded=True), **more) as answer:
            document: dict[str, object] = await answer.json()
            return document

    for path in ("/api/v1/jobs", "/api/v1/deployments/x/stop", "/api/v1/execution/next", "/api/v1/openapi.json", "/api/v1/modelsx"):
        assert (await ask("POST", path))["by"] == "api", path
    for path in ("/api/v1/models", "/api/v1/versions/bard@1", "/api/v1/datasets/a", "/api/v1/seals", "/api/v1/registry/openapi.json"):
        assert (await ask("GET", path))["by"] == "registry", path
    told = await ask(
        "PATCH",
        "/api/v1/versions/bard%401/files/a.json?after=a%2Fb&x=%20",
        data=b"some bytes",
        headers={
            "range": "bytes=5-",
            "x-forwarded-for": "6.6.6.6",
            "connection": "keep-alive, x-private",
            "x-private": "1",
            "x-request-id": "r-1",
        },
    )
    assert told["method"] == "PATCH"
    assert told["path"] == "/api/v1/versions/bard%401/files/a.json?after=a%2Fb&x=%20"
    assert told["body"] == "some bytes"
    headers = told["headers"]
    assert isinstance(headers, dict)
    assert headers["range"] == "bytes=5-"
    assert headers["authorization"].startswith("Bearer ")
    assert headers["host"] == urlsplit(platform.url).netloc
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-request-id"] == "r-1"
    assert headers["content-length"] == "10"
    assert "x-private" not in headers


async def test_answers_come_back_as_they_are(platform: Platform, http: aiohttp.ClientSession) -> None:
    async def answer_part(request: web.Request) -> web.StreamResponse:
        headers = {"content-range": "bytes 2-4/9", "etag": '"abc"', "location": "/api/v1/elsewhere", "connection": "x-hop", "x-hop": "1"}
        return web.Response(status=206, headers=headers, body=b"" if request.method == "HEAD" else b"cde")

    platform.registry.behave = answer_part
    async with http.get(f"{platform.url}/api/v1/versions/v/files/f", allow_redirects=False) as answer:
        assert (answer.status, await answer.read()) == (206, b"cde")
        assert answer.headers["content-range"] == "bytes 2-4/9"
        assert answer.headers["etag"] == '"abc"'
        assert answer.headers["location"] == "/api/v1/elsewhere"
        assert "x-hop" not in answer.headers
        assert "x-request-id" in answer.headers
        assert len(answer.headers.getall("date")) == 1
    async with http.head(f"{platform.url}/api/v1/versions/v/files/f") as answer:
        assert (answer.status, await answer.read()) == (206, b"")

    async def answer_nothing(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    platform.registry.behave = answer_nothing
    async with http.delete(f"{platform.url}/api/v1/versions/v") as answer:
        assert (answer.status, await answer.read()) == (204, b"")


async def test_both_ways_stream(platform: Platform, http: aiohttp.ClientSession) -> None:
    got_first, answered_first = asyncio.Event(), asyncio.Event()

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        assert await request.content.readany() == b"first"
        got_first.set()
        await response.prepare(request)
        await response.write(b"one")
        await answered_first.wait()
        await response.write(b"two")
        return response

    async def upload() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.wait_for(got_first.wait(), 5)
        yield b"second"

    platform.registry.behave = echo
    async with http.put(f"{platform.url}/api/v1/datasets/a", data=upload()) as answer:
        assert await answer.content.readany() == b"one"
        answered_first.set()
        assert await answer.content.read() == b"two"


async def test_half_an_upload_never_looks_whole(platform: Platform) -> None:
    outcome: asyncio.Future[bytes | str] = asyncio.get_running_loop().create_future()

    async def take(request: web.Request) -> web.StreamResponse:
        try:
            outcome.set_result(await request.read())
        except BaseException as error:
            outcome.set_result(type(error).__name__)
            raise
        return web.Response()

    platform.registry.behave = take
    parts = urlsplit(platform.url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"PUT /api/v1/datasets/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    await writer.drain()
    await until_any(platform.registry.paths)
    writer.transport.abort()
    assert isinstance(await asyncio.wait_for(outcome, 5), str)


async def test_a_client_that_leaves_is_noticed(platform: Platform, http: aiohttp.ClientSession) -> None:
    stopped = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"id: 1\ndata: {}\n\n")
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return response

    platform.api.behave = events
    answer = await http.get(f"{platform.url}/api/v1/jobs/j/events")
    assert await answer.content.readany() == b"id: 1\ndata: {}\n\n"
    answer.close()
    await asyncio.wait_for(stopped.wait(), 2)


async def test_half_an_answer_never_looks_whole(platform: Platform, http: aiohttp.ClientSession) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    platform.registry.behave = break_off
    async with http.get(f"{platform.url}/api/v1/models") as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_service_that_is_away(stack: AsyncExitStack, tmp_path: Path, platform: Platform, http: aiohttp.ClientSession) -> None:
    async with serving(platform.api.handle) as api_url:
        pass
    url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path / "second", api_url)))
    for method in ("GET", "POST"):
        async with http.request(method, f"{url}/api/v1/jobs", data=b"x" if method == "POST" else None) as answer:
            assert answer.status == 503
            assert answer.headers["retry-after"] == "2"
            assert answer.content_type == "application/problem+json"
            problem = await answer.json(content_type=None)
    assert problem["type"] == "urn:quantry:problem:unavailable"
    assert "api" in problem["detail"]
    assert problem["instance"] == "/api/v1/jobs"


async def test_a_service_that_begins_no_answer_is_given_up(stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async def begin_late(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.path.endswith("/hangs"):
            await request.read()
            await asyncio.sleep(60)
        await response.prepare(request)
        # A long poll: the head at once, the rest later than any head may come.
        await asyncio.sleep(0.6)
        await response.write(await request.read() or b"late")
        return response

    async def upload_slowly() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.3)
            yield b"x"

    async def echo(request: web.Request) -> web.StreamResponse:
        if request.path.endswith(("/seals", "/models")):
            await asyncio.sleep(0.6)
        return web.Response(body=await request.read())

    api, registry = Service("api", begin_late), Service("registry", echo)
    api_url = await stack.enter_async_context(serving(api.handle))
    registry_url = await stack.enter_async_context(serving(registry.handle))
    settings = gateway_settings(
        tmp_path, api_url, registry_url=registry_url, gateway_head_timeout_s=0.4, gateway_registry_head_timeout_s=0.8
    )
    url = await stack.enter_async_context(running_gateway(settings))
    for body in (None, b"some bytes"):
        async with asyncio.timeout(5), http.post(f"{url}/api/v1/hangs", data=body) as answer:
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    async with http.get(f"{url}/api/v1/jobs") as answer:
        assert (answer.status, await answer.read()) == (200, b"late")
    # The head may also come before the body has ended, and a client may take longer than a service.
    async with http.post(f"{url}/api/v1/jobs", data=upload_slowly()) as answer:
        assert (answer.status, await answer.read()) == (200, b"xxx")
    async with http.put(f"{url}/api/v1/datasets/a", data=upload_slowly()) as answer:
        assert (answer.status, await answer.read()) == (200, b"xxx")
    # A seal reads every byte before it answers: longer than any answer of the api may take.
    async with http.post(f"{url}/api/v1/seals", data=b"files") as answer:
        assert (answer.status, await answer.read()) == (200, b"files")
    # Nothing else that the registry does takes so long: it has hung.
    async with asyncio.timeout(5), http.get(f"{url}/api/v1/models") as answer:
        assert answer.status == 503


async def test_a_service_with_all_its_connections_taken_is_away_and_the_other_is_not(
    stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: {}\n\n")
        await asyncio.sleep(60)
        return response

    api, registry = Service("api", stream), Service("registry")
    api_url = await stack.enter_async_context(serving(api.handle))
    registry_url = await stack.enter_async_context(serving(registry.handle))
    changes = {"gateway_service_connections": 2, "gateway_connect_timeout_s": 0.2}
    url = await stack.enter_async_context(running_gateway(gateway_settings(tmp_path, api_url, registry_url=registry_url, **changes)))
    streams = [await http.get(f"{url}/api/v1/jobs/{n}/events") for n in range(2)]
    num_seen = len(api.paths)
    async with asyncio.timeout(5), http.get(f"{url}/api/v1/jobs") as answer:
        assert answer.status == 503
    async with http.get(f"{url}/api/v1/models") as answer:
        assert answer.status == 200

    # The gateway's own poll for routes has a connection all the same.
    async def is_polled() -> bool:
        return any(path.startswith("/internal/v1/routes?") for path in api.paths[num_seen:])

    await until(is_polled)
    streams.pop().close()

    async def is_answered() -> bool:
        async with http.get(f"{url}/api/v1/jobs/2/events") as answer:
            return answer.status == 200

    await until(is_answered)
    streams.pop().close()


ATTACKS = [
    "/internal/v1/routes",
    "//internal/v1/routes",
    "/./internal/v1/routes",
    "/api/v1/../../internal/v1/routes",
    "/api/v1/..%2f..%2finternal/v1/routes",
    "/api/v1/%2e%2e/%2e%2e/internal/v1/routes",
    "/api/v1/%2E%2E%2F%2e%2e/internal/v1/routes",
    "/api/v1/%252e%252e/%252e%252e/internal/v1/routes",
    "/api/v1/jobs%2f..%2f..%2f..%2finternal/v1/routes",
    "/api/v1/..\\..\\internal/v1/routes",
    "/api/v1/%5c..%5c..%5cinternal",
    "/api/v1//internal/v1/routes",
    "/api//v1/jobs",
    "/api/v1/jobs%00",
    "/%69nternal/v1/routes",
    "/INTERNAL/v1/routes",
    "/api/v1",
    "/api/v2/jobs",
    "/v1/../internal/v1/routes",
    "http://127.0.0.1/internal/v1/routes",
    "*",
]


async def test_a_fragment_leads_nowhere(platform: Platform) -> None:
    parts = urlsplit(platform.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"GET /api/v1/jobs#/../../../internal/v1/routes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    # A client should not have sent it. It is refused, or dropped as a client would have dropped it.
    assert all(path == "/api/v1/jobs" for path in platform.forwarded)


@pytest.mark.parametrize("target", ATTACKS)
async def test_no_spelling_reaches_what_is_internal(platform: Platform, target: str) -> None:
    parts = urlsplit(platform.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    status = int(answer.split(b" ", 2)[1])
    assert status in {400, 401, 404, 503}, answer
    assert platform.forwarded == []
