"""Engines that end under load: what had not begun is answered by others, what had begun ends with an error that says so."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest

from factories.gateway import DONE, RoutedGateway, StartRouted, route, routed, until, variant
from factories.killable_engine import KillableEngine, killable_engine
from quantry_core.routes import VariantRole
from quantry_gateway.outcomes import OutcomeKind

NUM_STREAMS = 50


@dataclass
class Seen:
    """What a client saw of one stream."""

    status: int
    ending: str
    """done, or the code of the error event; cut where it was neither."""
    ended_s: float
    release: str


async def read_stream(http: aiohttp.ClientSession, url: str, num_tokens: int, begun: list[str] | None = None) -> Seen:
    """Reads a stream to its end; the release that answers is appended to ``begun`` with its first event."""
    async with http.post(f"{url}/v1/completions", json={"model": "bard", "stream": True, "max_tokens": num_tokens}) as answer:
        release = answer.headers["x-quantry-release"]
        if begun is not None:
            begun.append(release)
        try:
            body = await answer.read()
        except aiohttp.ClientPayloadError:
            body = b""
    return Seen(answer.status, ending_of(body), time.monotonic(), release)


def ending_of(body: bytes) -> str:
    if body.endswith(DONE):
        return "done"
    last = body.rstrip().rsplit(b"\n", 1)[-1].removeprefix(b"data: ")
    try:
        return str(json.loads(last)["error"]["code"])
    except (ValueError, KeyError):
        return "cut"


async def has_begun(begun: list[str]) -> bool:
    return len(begun) == NUM_STREAMS


async def start_three(stack: AsyncExitStack) -> list[KillableEngine]:
    return list(await asyncio.gather(*(stack.enter_async_context(killable_engine()) for _ in range(3))))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_one_of_three_replicas_ends_under_fifty_streams(
    stack: AsyncExitStack, start_routed: StartRouted, http: aiohttp.ClientSession, number: signal.Signals
) -> None:
    engines = await start_three(stack)
    gateway = await start_routed(route("bard", *(engine.url for engine in engines)))
    begun: list[str] = []
    reading = [asyncio.create_task(read_stream(http, gateway.url, 60, begun)) for _ in range(NUM_STREAMS)]
    await until(lambda: has_begun(begun))
    killed_s = time.monotonic()
    await engines[0].end(number)
    later = [asyncio.create_task(read_stream(http, gateway.url, 3)) for _ in range(30)]
    seen = await asyncio.gather(*reading)
    endings = Counter(one.ending for one in seen)
    assert set(endings) == {"done", "upstream_failed"}
    # A third of them were there.
    assert 10 <= endings["upstream_failed"] <= 24
    assert all(one.ended_s - killed_s < 2.0 for one in seen if one.ending == "upstream_failed")
    assert {(one.status, one.ending) for one in await asyncio.gather(*later)} == {(200, "done")}
    told = Counter(kind for _, kind in gateway.told())
    assert told == {OutcomeKind.FAILED: endings["upstream_failed"], OutcomeKind.ANSWERED: NUM_STREAMS - endings["upstream_failed"] + 30}


async def test_a_killed_replica_is_left_out_at_once(stack: AsyncExitStack, start_routed: StartRouted, http: aiohttp.ClientSession) -> None:
    engines = await start_three(stack)
    gateway = await start_routed(route("bard", *(engine.url for engine in engines)), gateway_eject_s=20)
    await engines[0].end(signal.SIGKILL)
    for _ in range(20):
        assert (await read_stream(http, gateway.url, 1)).ending == "done"
    # One request met the closed door, and went on to another replica.
    assert sum(outcome.num_retried for outcome in gateway.outcomes) == 1


async def test_a_rollback_under_load_fails_nobody(stack: AsyncExitStack, start_routed: StartRouted, http: aiohttp.ClientSession) -> None:
    """The candidate loses its share, its streams end in peace, then its replica goes; another is killed without warning before them all."""
    stable, candidate, doomed = await start_three(stack)
    stable_variant, candidate_variant = VariantRole.STABLE, VariantRole.CANDIDATE
    before = routed("bard", variant(stable_variant, 3, 50, stable.url), variant(candidate_variant, 4, 50, candidate.url, doomed.url))
    after = routed("bard", variant(stable_variant, 3, 100, stable.url))
    gateway = await start_routed(before)
    seen: list[Seen] = []

    async def ask_again_and_again() -> None:
        while len(seen) < 400:
            seen.append(await read_stream(http, gateway.url, 3))

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(ask_again_and_again())
        await until(lambda: has_seen(seen, 100))
        gateway.publish(after)
        rolled_back_s = time.monotonic()
        await until_quiet(gateway)
        await candidate.end(signal.SIGTERM)
        await doomed.end(signal.SIGKILL)
    assert Counter((one.status, one.ending) for one in seen) == {(200, "done"): len(seen)}
    # Each stream takes a tenth of a second: none began there later than a second after the change.
    assert all(one.release == "3" for one in seen if one.ended_s > rolled_back_s + 1.5)
    assert {one.release for one in seen} == {"3", "4"}


async def has_seen(seen: list[Seen], number: int) -> bool:
    return len(seen) >= number


async def until_quiet(gateway: RoutedGateway) -> None:
    """Returns once the candidate has had no answer under way for a while."""
    num_seen = -1
    while (now := sum(release == "rel_4" for release, _ in gateway.told())) != num_seen:
        num_seen = now
        await asyncio.sleep(0.5)
