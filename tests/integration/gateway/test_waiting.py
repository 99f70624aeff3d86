"""Requests that wait: for room at a replica, and for a replica at all."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from factories.gateway import (
    FakeRoutesApi,
    StartEngines,
    StartRouted,
    answer_normally,
    gateway_settings,
    route,
    routed,
    running_gateway,
    serving,
    snapshot,
    until,
    until_any,
    variant,
)
from quantry_core.routes import Split, VariantRole
from quantry_core.strategies import StickyBy
from quantry_gateway import app
from quantry_gateway.demands import WaitingRoom
from quantry_gateway.hooks import Hooks, Surroundings
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.variants import sticky_point

ASK = {"model": "bard", "prompt": "To be"}
STABLE, CANDIDATE = VariantRole.STABLE, VariantRole.CANDIDATE


class Gate:
    """An engine's behaviour: it answers once the gate is open, and knows how many it had at once."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.num_inside = 0
        self.most_inside = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.num_inside += 1
        self.most_inside = max(self.most_inside, self.num_inside)
        try:
            await self.open.wait()
            return await answer_normally(request)
        finally:
            self.num_inside -= 1


async def post(http: aiohttp.ClientSession, url: str) -> tuple[int, str | None, str | None]:
    """Returns status, error code and Retry-After."""
    async with http.post(f"{url}/v1/completions", json=ASK) as answer:
        document = await answer.json()
        return answer.status, document.get("error", {}).get("code"), answer.headers.get("retry-after")


async def test_a_replica_has_no_more_at_once_than_it_may_and_the_rest_wait(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    gates = [Gate(), Gate()]
    engines = await start_engines(*(gate.answer for gate in gates))
    gateway = await start_routed(
        routed("bard", variant(STABLE, 3, 100, *(engine.url for engine in engines), max_requests=2)), gateway_queue_length=3
    )
    asking = [asyncio.create_task(post(http, gateway.url)) for _ in range(7)]

    async def are_full() -> bool:
        return [gate.num_inside for gate in gates] == [2, 2]

    await until(are_full)
    await asyncio.sleep(0.1)
    # Four are at the replicas, three wait, and there is no room for an eighth.
    assert await post(http, gateway.url) == (429, "queue_full", "2")
    for gate in gates:
        gate.open.set()
    assert Counter(await asyncio.gather(*asking)) == {(200, None, None): 7}
    assert [gate.most_inside for gate in gates] == [2, 2]
    assert Counter(gateway.told()) == {("rel_3", OutcomeKind.ANSWERED): 7, ("rel_3", OutcomeKind.REFUSED): 1}


async def test_who_waits_too_long_for_room_is_told_to_come_again(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    gate = Gate()
    [engine] = await start_engines(gate.answer)
    gateway = await start_routed(routed("bard", variant(STABLE, 3, 100, engine.url, max_requests=1)), gateway_queue_wait_s=0.1)
    first = asyncio.create_task(post(http, gateway.url))
    await until_any(engine.bodies)
    assert await post(http, gateway.url) == (503, "queue_timeout", "2")
    gate.open.set()
    assert (await first)[0] == 200
    assert gateway.told() == [("rel_3", OutcomeKind.REFUSED), ("rel_3", OutcomeKind.ANSWERED)]


@pytest.mark.parametrize("patience", [{"gateway_queue_length": 0}, {"gateway_queue_wait_s": 0.1}], ids=["full", "too-long"])
async def test_a_candidate_without_room_fails_nobody_and_gets_nothing_that_stable_has_no_room_for(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession, patience: dict[str, float]
) -> None:
    gate = Gate()
    slow, quick = await start_engines(gate.answer, answer_normally)
    by_user = Split(by=StickyBy.USER, salt="rol_1")
    # One who is dealt to the stable release.
    will = next(name for name in map(str, range(100)) if sticky_point(by_user.salt, name.encode()) >= 0.5)
    gateway = await start_routed(
        routed("bard", variant(STABLE, 3, 0, quick.url), variant(CANDIDATE, 4, 100, slow.url, max_requests=1)),
        routed("full", variant(STABLE, 4, 50, slow.url, max_requests=1), variant(CANDIDATE, 3, 50, quick.url), split=by_user),
        **patience,
    )
    first = asyncio.create_task(post(http, gateway.url))
    await until_any(slow.bodies)
    assert await post(http, gateway.url) == (200, None, None)
    assert gateway.told() == [("rel_4", OutcomeKind.REFUSED), ("rel_3", OutcomeKind.ANSWERED)]
    async with http.post(f"{gateway.url}/v1/completions", json=ASK | {"model": "full", "user": will}) as answer:
        assert answer.status in {429, 503}
    assert len(quick.bodies) == 1
    gate.open.set()
    assert (await first)[0] == 200


async def test_a_client_that_leaves_the_queue_leaves_its_place(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    gate = Gate()
    [engine] = await start_engines(gate.answer)
    gateway = await start_routed(routed("bard", variant(STABLE, 3, 100, engine.url, max_requests=1)), gateway_queue_length=1)
    first = asyncio.create_task(post(http, gateway.url))
    await until_any(engine.bodies)
    leaves = asyncio.create_task(post(http, gateway.url))
    await asyncio.sleep(0.1)
    leaves.cancel()
    await until_any(gateway.outcomes)
    stays = asyncio.create_task(post(http, gateway.url))
    await asyncio.sleep(0.1)
    gate.open.set()
    assert [(await task)[0] for task in (first, stays)] == [200, 200]
    assert gateway.told()[0] == ("rel_3", OutcomeKind.GIVEN_UP)
    assert len(engine.bodies) == 2


async def test_requests_wait_for_the_replica_that_they_wake_and_are_counted(
    stack: AsyncExitStack, start_engines: StartEngines, tmp_path: Path, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    [engine] = await start_engines(answer_normally)
    rooms: list[WaitingRoom] = []

    def listen(surroundings: Surroundings) -> Hooks:
        rooms.append(surroundings.waiting)
        return Hooks()

    monkeypatch.setattr(app, "build_hooks", listen)
    api = FakeRoutesApi(snapshot(route("bard", wakes=True)))
    settings = gateway_settings(
        tmp_path, await stack.enter_async_context(serving(api.handle)), gateway_ready_wait_s=0.01, gateway_queue_length=3
    )
    url = await stack.enter_async_context(running_gateway(settings))

    async def is_ready() -> bool:
        async with http.get(f"{url}/healthz") as answer:
            return answer.status == 200

    await until(is_ready)
    asking = [asyncio.create_task(post(http, url)) for _ in range(3)]

    async def are_waiting() -> bool:
        return [(demand.deployment_id, demand.num_waiting) for demand in rooms[0].demands()] == [("dep_bard", 3)]

    await until(are_waiting)
    # The room is full.
    assert await post(http, url) == (503, "no_replica_ready", "2")
    api.publish(snapshot(route("bard", engine.url), revision=2))
    assert {status for status, _, _ in await asyncio.gather(*asking)} == {200}
    assert rooms[0].demands() == []
