"""Engines that refuse, drop, hang and break off."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from factories.gateway import (
    COMPLETION_ANSWER,
    StartEngines,
    StartGateway,
    answer_normally,
    chat_event,
    cut,
    drop_before_answer,
    hang,
    refusing_url,
    until_any,
)

ASK = {"model": "bard", "prompt": "To be"}


async def error_of(answer: aiohttp.ClientResponse) -> tuple[int, str]:
    document = await answer.json()
    return answer.status, document["error"]["code"]


async def test_a_replica_that_refuses_connections_is_passed_over(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    url = await start_gateway(refusing_url(), engine.url, refusing_url())
    for _ in range(4):
        async with http.post(f"{url}/v1/completions", json=ASK) as answer:
            assert answer.status == 200
    assert len(engine.bodies) == 4


async def test_nothing_but_refusals_is_a_502(start_gateway: StartGateway, http: aiohttp.ClientSession) -> None:
    url = await start_gateway(refusing_url(), refusing_url())
    async with http.post(f"{url}/v1/completions", json=ASK) as answer:
        assert await error_of(answer) == (502, "upstream_failed")


async def test_a_request_moves_on_when_a_replica_drops_it(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    async def drop_in_the_body(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(COMPLETION_ANSWER))})
        await response.prepare(request)
        await response.write(COMPLETION_ANSWER[:20])
        cut(request)
        return response

    for faulty in (drop_before_answer, drop_in_the_body):
        engines = await start_engines(faulty, answer_normally)
        url = await start_gateway(*(engine.url for engine in engines))
        async with http.post(f"{url}/v1/completions", json=ASK) as answer:
            assert answer.status == 200
            assert await answer.read() == COMPLETION_ANSWER
        assert [len(engine.bodies) for engine in engines] == [1, 1]


async def test_a_request_that_two_replicas_drop_is_not_tried_on_a_third(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    engines = await start_engines(drop_before_answer, drop_before_answer, drop_before_answer)
    url = await start_gateway(*(engine.url for engine in engines))
    async with http.post(f"{url}/v1/completions", json=ASK) as answer:
        assert await error_of(answer) == (502, "upstream_failed")
    assert sum(len(engine.bodies) for engine in engines) == 2


async def test_a_lone_replica_gets_a_second_chance(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    calls = 0

    async def drop_once(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        return await (drop_before_answer if calls == 1 else answer_normally)(request)

    [engine] = await start_engines(drop_once)
    url = await start_gateway(engine.url)
    async with http.post(f"{url}/v1/completions", json=ASK) as answer:
        assert answer.status == 200


async def test_a_replica_that_says_it_is_away_is_passed_over_unless_it_is_the_last(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    async def away(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, text="not yet")

    engines = await start_engines(away, answer_normally)
    url = await start_gateway(*(engine.url for engine in engines))
    async with http.post(f"{url}/v1/completions", json=ASK) as answer:
        assert answer.status == 200
    lone = await start_gateway(engines[0].url)
    async with http.post(f"{lone}/v1/completions", json=ASK) as answer:
        assert (answer.status, await answer.text()) == (503, "not yet")


async def test_a_replica_that_hangs_is_given_up_in_time(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    async def hang_in_the_stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_event("To"))
        await asyncio.sleep(60)
        return response

    engines = await start_engines(hang, hang_in_the_stream)
    url = await start_gateway(engines[0].url, gateway_idle_timeout_s=0.2)
    async with http.post(f"{url}/v1/completions", json=ASK) as answer:
        assert await error_of(answer) == (504, "upstream_timeout")
    streaming = await start_gateway(engines[1].url, gateway_idle_timeout_s=0.2)
    async with http.post(f"{streaming}/v1/completions", json=ASK | {"stream": True}) as answer:
        body = await answer.read()
    assert body.startswith(chat_event("To"))
    assert b'"code":"upstream_timeout"' in body


async def test_the_least_busy_replica_is_asked(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    released = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return await answer_normally(request)

    engines = await start_engines(slow, answer_normally)
    url = await start_gateway(*(engine.url for engine in engines))
    first = asyncio.create_task(http.post(f"{url}/v1/completions", json=ASK))
    await until_any(engines[0].bodies, engines[1].bodies)
    async with http.post(f"{url}/v1/completions", json=ASK):
        pass
    for _ in range(3):
        async with http.post(f"{url}/v1/completions", json=ASK) as answer:
            assert answer.status == 200
    assert len(engines[0].bodies) == 1
    assert len(engines[1].bodies) == 4
    released.set()
    (await first).close()


async def test_an_engines_redirect_is_not_followed(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    [elsewhere] = await start_engines(answer_normally)

    async def redirect(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"location": f"{elsewhere.url}/v1/completions"})

    [engine] = await start_engines(redirect)
    url = await start_gateway(engine.url)
    async with http.post(f"{url}/v1/completions", json=ASK, allow_redirects=False) as answer:
        assert answer.status == 307
    assert elsewhere.bodies == []
