"""How long a whole request may take."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from factories.gateway import StartEngines, StartRouted, chat_event, hang, route, until_any
from quantry_gateway.outcomes import OutcomeKind

ASK = {"model": "bard", "prompt": "To be"}


async def stream_for_ever(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    while True:
        await response.write(chat_event("To"))
        await asyncio.sleep(0.02)


async def test_a_request_that_takes_longer_than_it_may_is_ended_in_its_own_shape(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    stopped = asyncio.Event()

    async def hang_and_tell(request: web.Request) -> web.StreamResponse:
        try:
            return await hang(request)
        finally:
            stopped.set()

    mute, endless = await start_engines(hang_and_tell, stream_for_ever)
    gateway = await start_routed(route("bard", mute.url), route("endless", endless.url))
    headers = {"x-request-timeout-s": "0.2"}
    async with http.post(f"{gateway.url}/v1/completions", json=ASK, headers=headers) as answer:
        assert answer.status == 504
        error = (await answer.json())["error"]
    assert (error["code"], error["type"]) == ("deadline_exceeded", "server_error")
    assert "0.2 seconds" in error["message"]
    # The engine was told to stop by the end of its connection.
    await asyncio.wait_for(stopped.wait(), 2)
    async with http.post(f"{gateway.url}/v1/completions", json=ASK | {"model": "endless", "stream": True}, headers=headers) as answer:
        assert answer.status == 200
        body = await answer.read()
    assert body.startswith(chat_event("To"))
    assert json.loads(body.rsplit(b"data: ", 1)[-1])["error"]["code"] == "deadline_exceeded"
    # Its client's own impatience is no failure of the release.
    assert [kind for _, kind in gateway.told()] == [OutcomeKind.GIVEN_UP, OutcomeKind.GIVEN_UP]


async def test_the_gateways_own_bound_holds_for_all_and_is_the_releases_failure(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(hang)
    gateway = await start_routed(route("bard", engine.url), gateway_request_timeout_s=0.2)
    async with http.post(f"{gateway.url}/v1/completions", json=ASK, headers={"x-request-timeout-s": "60"}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (504, "deadline_exceeded")
    assert gateway.told() == [("rel_1", OutcomeKind.FAILED)]


@pytest.mark.parametrize("given", ["", "soon", "0", "-1", "nan", "inf"])
async def test_a_deadline_that_is_none_is_refused(start_routed: StartRouted, http: aiohttp.ClientSession, given: str) -> None:
    gateway = await start_routed(route("bard"))
    async with http.post(f"{gateway.url}/v1/completions", json=ASK, headers={"x-request-timeout-s": given}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_timeout")


async def test_a_client_that_leaves_its_stream_has_given_up(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(stream_for_ever)
    gateway = await start_routed(route("bard", engine.url))
    answer = await http.post(f"{gateway.url}/v1/completions", json=ASK | {"stream": True})
    await answer.content.readany()
    answer.close()
    await until_any(gateway.outcomes)
    [outcome] = gateway.outcomes
    assert outcome.kind is OutcomeKind.GIVEN_UP
    assert outcome.first_byte_s is not None
