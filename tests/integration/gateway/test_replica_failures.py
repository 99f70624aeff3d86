"""Engines that refuse, drop, hang and break off."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web
from structlog.testing import capture_logs

from factories.gateway import (
    COMPLETION_ANSWER,
    DONE,
    StartEngines,
    StartGateway,
    StartRouted,
    answer_normally,
    chat_event,
    cut,
    drop_before_answer,
    hang,
    refusing_url,
    route,
    stream,
    stream_until,
    until,
    until_any,
)
from quantry_gateway.outcomes import OutcomeKind

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


async def test_an_engines_error_that_repeats_the_prompt_is_for_the_client_and_for_no_log(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    async def quote(request: web.Request) -> web.StreamResponse:
        return await stream(request, [b'data: {"error":{"message":"input_value=To be","code":400}}\n\n', DONE])

    [engine] = await start_engines(quote)
    url = await start_gateway(engine.url)
    with capture_logs() as lines:
        async with http.post(f"{url}/v1/completions", json=ASK | {"stream": True}) as answer:
            assert answer.status == 502
            assert "input_value=To be" in (await answer.json())["error"]["message"]
    assert any(line["event"] == "replica.failed" for line in lines)
    assert "To be" not in str(lines)


async def test_a_stream_that_has_its_end_mark_is_complete_however_its_connection_ends(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    async def cut_after_the_end_mark(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_event("To") + DONE)
        await asyncio.sleep(0.05)
        cut(request)
        return response

    [engine] = await start_engines(cut_after_the_end_mark)
    gateway = await start_routed(route("bard", engine.url))
    async with http.post(f"{gateway.url}/v1/completions", json=ASK | {"stream": True}) as answer:
        assert await answer.read() == chat_event("To") + DONE
    assert gateway.told() == [("rel_1", OutcomeKind.ANSWERED)]


async def test_a_stream_that_says_its_length_and_breaks_off_ends_with_an_error_too(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    async def cut_before_its_end(request: web.Request) -> web.StreamResponse:
        size_bytes = len(chat_event("To") + DONE)
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "content-length": str(size_bytes)})
        await response.prepare(request)
        await response.write(chat_event("To"))
        await asyncio.sleep(0.05)
        cut(request)
        return response

    [engine] = await start_engines(cut_before_its_end)
    url = await start_gateway(engine.url)
    async with http.post(f"{url}/v1/completions", json=ASK | {"stream": True}) as answer:
        body = await answer.read()
    assert body.startswith(chat_event("To"))
    assert b'"code":"upstream_failed"' in body


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


async def test_an_engines_error_is_tried_once_more_and_then_passed_on(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    async def fail(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=500, body=b'{"error":{"message":"EngineDeadError"}}', content_type="application/json")

    engines = await start_engines(fail, fail, fail, answer_normally)
    url = await start_gateway(*(engine.url for engine in engines[:3]))
    async with http.post(f"{url}/v1/completions", json=ASK) as answer:
        assert (answer.status, await answer.read()) == (500, b'{"error":{"message":"EngineDeadError"}}')
    assert sum(len(engine.bodies) for engine in engines) == 2
    mended = await start_gateway(engines[2].url, engines[3].url)
    async with http.post(f"{mended}/v1/completions", json=ASK) as answer:
        assert answer.status == 200


async def test_a_stream_whose_first_event_does_not_come_is_asked_elsewhere(
    start_engines: StartEngines, start_gateway: StartGateway, http: aiohttp.ClientSession
) -> None:
    async def begin_and_hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    engines = await start_engines(begin_and_hang, answer_normally)
    url = await start_gateway(*(engine.url for engine in engines), gateway_first_event_timeout_s=0.2)
    for _ in range(2):
        async with http.post(f"{url}/v1/chat/completions", json=ASK | {"stream": True}) as answer:
            assert (answer.status, (await answer.read()).endswith(DONE)) == (200, True)
    assert [len(engine.bodies) for engine in engines] == [2, 2]
    lone = await start_gateway(engines[0].url, gateway_first_event_timeout_s=0.2)
    async with http.post(f"{lone}/v1/chat/completions", json=ASK | {"stream": True}) as answer:
        assert await error_of(answer) == (504, "upstream_timeout")


async def test_when_every_replica_is_out_the_answer_is_quick_until_one_has_recovered(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    is_well = False

    async def fail_at_first(request: web.Request) -> web.StreamResponse:
        return await (answer_normally if is_well else drop_before_answer)(request)

    engines = await start_engines(fail_at_first, fail_at_first)
    gateway = await start_routed(route("bard", *(engine.url for engine in engines)), gateway_eject_after=1, gateway_eject_s=0.3)
    async with http.post(f"{gateway.url}/v1/completions", json=ASK) as answer:
        assert await error_of(answer) == (502, "upstream_failed")
    num_asked = sum(len(engine.bodies) for engine in engines)
    async with http.post(f"{gateway.url}/v1/completions", json=ASK) as answer:
        assert await error_of(answer) == (503, "no_replica_answers")
        assert answer.headers["retry-after"] == "2"
    assert sum(len(engine.bodies) for engine in engines) == num_asked
    is_well = True

    async def is_back() -> bool:
        async with http.post(f"{gateway.url}/v1/completions", json=ASK) as answer:
            return answer.status == 200

    await until(is_back, timeout_s=1.0)
    assert gateway.told()[:2] == [("rel_1", OutcomeKind.FAILED)] * 2
    assert gateway.told()[-1] == ("rel_1", OutcomeKind.ANSWERED)


async def test_a_replica_that_left_the_routes_ends_its_answer_and_gets_no_other(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    may_end = asyncio.Event()

    leaving, staying = await start_engines(stream_until(may_end), answer_normally)
    gateway = await start_routed(route("bard", leaving.url))
    streaming = await http.post(f"{gateway.url}/v1/completions", json=ASK | {"stream": True})
    assert await streaming.content.readany() == chat_event("To")
    gateway.publish(route("bard", staying.url))

    # Learnt within a second of the change.
    await asyncio.sleep(1.0)
    for _ in range(5):
        async with http.post(f"{gateway.url}/v1/completions", json=ASK) as answer:
            assert answer.status == 200
    assert len(leaving.bodies) == 1
    may_end.set()
    assert (await streaming.content.read()).endswith(DONE)
