"""What passes through to engines, and what is refused before."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from factories.gateway import (
    DONE,
    EXPIRED_KEY,
    KEY,
    MACHINE_KEY,
    OTHER_KEY,
    FakeRoutesApi,
    StartEngines,
    StartGateway,
    answer_normally,
    chat_event,
    gateway_settings,
    route,
    running_gateway,
    serving,
    snapshot,
    stream_until,
    until,
)
from quantry_gateway.records import Record


async def test_the_body_passes_byte_for_byte_and_the_key_does_not(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    url = await start_gateway(engine.url)
    body = b'{ "prompt":"\\u00e9 \xc3\xa9",\n\t"model" : "bard", "temperature":0.10, "n":1 }'
    async with http.post(
        f"{url}/v1/completions", data=body, headers={"content-type": "application/json", "x-request-id": "mine-1"}
    ) as answer:
        assert answer.status == 200
        assert answer.headers["x-request-id"] == "mine-1"
    assert engine.bodies == [body]
    assert engine.headers[0]["content-type"] == "application/json"
    assert "authorization" not in engine.headers[0]
    assert KEY not in json.dumps(engine.headers)


async def test_an_engines_refusal_passes_as_it_is(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, body=b'{"error":{"message":"max_tokens is too large"}}', content_type="application/json")

    engines = await start_engines(refuse, refuse)
    url = await start_gateway(*(engine.url for engine in engines))
    async with http.post(f"{url}/v1/completions", json={"model": "bard", "max_tokens": 10**9}) as answer:
        assert answer.status == 400
        assert await answer.read() == b'{"error":{"message":"max_tokens is too large"}}'
    assert sum(len(engine.bodies) for engine in engines) == 1


async def test_chunks_arrive_one_by_one(start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    client_has_first = asyncio.Event()

    async def wait_between(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_event("To"))
        await asyncio.wait_for(client_has_first.wait(), 5)
        await response.write(chat_event(" be") + DONE)
        return response

    [engine] = await start_engines(wait_between)
    url = await start_gateway(engine.url)
    async with http.post(f"{url}/v1/chat/completions", json={"model": "bard", "stream": True}) as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.content.readany() == chat_event("To")
        client_has_first.set()
        assert await answer.content.read() == chat_event(" be") + DONE


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_client_that_leaves_stops_its_engine(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession, is_streaming: bool
) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def generate_for_ever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        try:
            if is_streaming:
                await response.prepare(request)
                await response.write(chat_event("To"))
            begun.set()
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return response

    [engine] = await start_engines(generate_for_ever)
    url = await start_gateway(engine.url)
    asking = asyncio.create_task(http.post(f"{url}/v1/chat/completions", json={"model": "bard", "stream": True}))
    await asyncio.wait_for(begun.wait(), 5)
    if is_streaming:
        (await asking).close()
    else:
        asking.cancel()
    await asyncio.wait_for(stopped.wait(), 2)


async def test_a_large_body_passes(start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    [engine] = await start_engines(answer_normally)
    url = await start_gateway(engine.url)
    body = json.dumps({"model": "bard", "prompt": "x" * 3_000_000}).encode()
    async with http.post(f"{url}/v1/completions", data=io.BytesIO(body)) as answer:
        assert answer.status == 200
    assert engine.bodies == [body]


async def test_bodies_over_the_limit_are_refused(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    url = await start_gateway(engine.url, gateway_max_body_bytes=2000)
    fits = json.dumps({"model": "bard", "prompt": ""}).encode()
    fits = json.dumps({"model": "bard", "prompt": "x" * (2000 - len(fits))}).encode()
    assert len(fits) == 2000

    async def undeclared(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 500):
            yield body[start : start + 500]

    for data, status in ((fits, 200), (fits + b" ", 413), (undeclared(fits), 200), (undeclared(fits + b" "), 413)):
        async with http.post(f"{url}/v1/completions", data=data) as answer:
            assert answer.status == status
            if status == 413:
                assert (await answer.json())["error"]["code"] == "request_too_large"
    assert engine.bodies == [fits, fits]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"model=bard", "invalid_json"),
        (b'["bard"]', "invalid_json"),
        (b"\xff\xfe\xff", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"{}", "missing_model"),
        (b'{"model":null}', "missing_model"),
        (b'{"model":7}', "missing_model"),
        (b'{"model":""}', "missing_model"),
    ],
)
async def test_bodies_that_cannot_be_routed(start_gateway: StartGateway, http: aiohttp.ClientSession, body: bytes, code: str) -> None:
    url = await start_gateway()
    async with http.post(f"{url}/v1/completions", data=body) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}


async def test_who_may_call_what(start_gateway: StartGateway) -> None:
    url = await start_gateway()
    async with aiohttp.ClientSession() as http:

        async def ask(authorization: str | None, method: str = "GET", path: str = "/v1/models") -> tuple[int, str | None]:
            headers = {} if authorization is None else {"authorization": authorization}
            async with http.request(method, url + path, headers=headers) as answer:
                document = await answer.json()
                return answer.status, document.get("error", {}).get("code")

        assert await ask(None) == (401, "invalid_api_key")
        assert await ask(KEY) == (401, "invalid_api_key")
        assert await ask(f"Basic {KEY}") == (401, "invalid_api_key")
        assert await ask(f"Bearer {KEY}x") == (401, "invalid_api_key")
        assert await ask(f"bearer {KEY}") == (200, None)
        assert await ask(f"Bearer {MACHINE_KEY}") == (403, "key_not_allowed")
        assert await ask(f"Bearer {EXPIRED_KEY}") == (401, "expired_api_key"), "by this gateway's clock alone"
        assert await ask(f"Bearer {OTHER_KEY}", path="/v1/models/bard") == (404, "model_not_found")
        assert await ask(f"Bearer {OTHER_KEY}", path="/v1/models/other") == (200, None)
        assert await ask(f"Bearer {KEY}", method="DELETE", path="/v1/models/bard") == (405, "method_not_allowed")
        assert await ask(f"Bearer {KEY}", path="/v1/completions") == (405, "method_not_allowed")
        assert await ask(f"Bearer {KEY}", method="POST", path="/v1/images") == (404, "unknown_url")


async def test_an_adapter_is_a_model_with_a_parent_and_goes_to_the_replicas_that_have_it(
    start_engines: StartEngines, stack: AsyncExitStack, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    [without, with_it] = await start_engines(answer_normally, answer_normally)
    adapters = [route("pirate", with_it.url, parent="bard"), route("idle", parent="bard")]
    api = FakeRoutesApi(snapshot(route("bard", without.url, with_it.url), *adapters))
    settings = gateway_settings(tmp_path, await stack.enter_async_context(serving(api.handle)))
    url = await stack.enter_async_context(running_gateway(settings))

    async def knows_routes() -> bool:
        async with http.get(f"{url}/v1/models") as answer:
            return answer.status == 200

    await until(knows_routes)
    async with http.get(f"{url}/v1/models") as answer:
        models = {model["id"]: model for model in (await answer.json())["data"]}
    assert "parent" not in models["bard"]
    assert (models["pirate"]["root"], models["pirate"]["parent"]) == ("bard", "bard")
    body = b'{"model": "pirate",  "prompt": "Ahoy"}'
    for _ in range(4):
        async with http.post(f"{url}/v1/completions", data=body, headers={"content-type": "application/json"}) as answer:
            assert answer.status == 200
    assert (without.bodies, with_it.bodies) == ([], [body] * 4)
    async with http.post(f"{url}/v1/completions", json={"model": "idle", "prompt": "Ahoy"}) as answer:
        assert answer.status == 503


@pytest.mark.parametrize(
    ("path", "engine_path"),
    [
        ("/v1/completions", "/v1/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/embeddings", "/v1/embeddings"),
        ("/v1/tokenize", "/tokenize"),
        ("/tokenize", "/tokenize"),
        ("/v1/detokenize", "/detokenize"),
        ("/detokenize", "/detokenize"),
    ],
)
async def test_what_engines_answer_reaches_them_under_their_own_path(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession, path: str, engine_path: str
) -> None:
    paths: list[str] = []

    async def answer_shortly(request: web.Request) -> web.StreamResponse:
        paths.append(request.raw_path)
        return web.json_response({"count": 2})

    [engine] = await start_engines(answer_shortly)
    url = await start_gateway(engine.url)
    async with http.post(f"{url}{path}?x=1", json={"model": "bard", "input": "To be"}) as answer:
        assert (answer.status, await answer.json()) == (200, {"count": 2})
    assert paths == [engine_path]
    async with http.post(f"{url}{path}", json={"model": "nobody"}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "model_not_found")
    async with http.post(f"{url}{path}", json={"model": "bard"}, headers={"authorization": "Bearer x"}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")


async def test_fifty_megabytes_are_refused_before_they_are_read(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    url = await start_gateway(engine.url)
    parts = URL(url)
    reader, writer = await asyncio.open_connection(parts.host, parts.port)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 52428800\r\n\r\n"
    writer.write(head.encode() + b"{")
    answer = await asyncio.wait_for(reader.readuntil(b"}}"), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer
    assert engine.bodies == []


async def test_not_even_a_defect_cuts_a_stream_silently(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = asyncio.Event()

    def fail(_record: Record, _events: bytes) -> None:
        raise ZeroDivisionError

    [engine] = await start_engines(stream_until(may_go_on))
    url = await start_gateway(engine.url)
    async with http.post(f"{url}/v1/completions", json={"model": "bard", "prompt": "To be", "stream": True}) as answer:
        assert await answer.content.readany() == chat_event("To")
        monkeypatch.setattr(Record, "passed", fail)
        may_go_on.set()
        assert b'"code":"internal"' in await answer.read()
