"""What a whole gateway tells of the requests that went through it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from factories.gateway import (
    KEY,
    OTHER_KEY,
    FakeRoutesApi,
    StartEngines,
    answer_normally,
    cut,
    gateway_settings,
    keys,
    routed,
    running_gateway,
    serving,
    stream,
    until,
    variant,
)
from factories.greedy_engine import GreedyEngine
from quantry_core.captures import CaptureSettings
from quantry_core.keys import KeyLimits
from quantry_core.routes import Mirror, Route, RouteSnapshot, VariantRole
from quantry_core.traffic import Tally

CHAT = {"model": "bard", "messages": [{"role": "user", "content": "To be"}]}


@dataclass
class Told:
    """A gateway, and the api that it tells things to."""

    url: str
    api: FakeRoutesApi

    def tally(self, release_id: str) -> Tally:
        """Returns what the api has counted of a release: each report once."""
        whole = Tally()
        for report in {report.sequence: report for report in self.api.reports}.values():
            for window in report.windows:
                if window.release_id == release_id:
                    whole = whole.merged(window.tally)
        return whole

    async def until_tally(self, release_id: str, holds: Callable[[Tally], bool]) -> Tally:
        """Returns a release's tally once something holds of it."""

        async def does_hold() -> bool:
            return holds(self.tally(release_id))

        await until(does_hold)
        return self.tally(release_id)


StartTold = Callable[..., Awaitable[Told]]


@pytest.fixture
def start_told(stack: AsyncExitStack, tmp_path: Path) -> StartTold:
    """Starts a gateway with one route, whose first key may have limits, and waits until it is ready."""

    async def start(route: Route, limits: KeyLimits | None = None, **changes: object) -> Told:
        return await stack.enter_async_context(telling_gateway(tmp_path, route, limits or KeyLimits(), **changes))

    return start


@asynccontextmanager
async def telling_gateway(state_dir: Path, route: Route, limits: KeyLimits, **changes: object) -> AsyncIterator[Told]:
    first, *others = keys()
    snapshot = RouteSnapshot(revision=1, routes=[route], keys=[first.model_copy(update={"limits": limits}), *others])
    api = FakeRoutesApi(snapshot)
    quick = {"gateway_report_interval_s": 0.02, "gateway_feedback_settle_s": 0.0, "gateway_mirror_patience_s": 0.5}
    async with serving(api.handle) as api_url, running_gateway(gateway_settings(state_dir, api_url, **(quick | changes))) as url:

        async def is_ready() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as response:
                return response.status == 200

        await until(is_ready)
        yield Told(url, api)


async def ask(http: aiohttp.ClientSession, told: Told, **changes: Any) -> tuple[int, dict[str, str], Any]:
    """Returns status, fields and body of the answer to a chat."""
    async with http.post(f"{told.url}/v1/chat/completions", json=CHAT | changes) as response:
        body = await response.read()
        fields = {name.lower(): value for name, value in response.headers.items()}
        return response.status, fields, json.loads(body) if body.startswith(b"{") else body


async def test_answers_and_failures_are_counted_for_their_release(
    start_told: StartTold, start_engines: StartEngines, http: aiohttp.ClientSession
) -> None:
    good, bad = await start_engines(answer_normally, _break_off)
    told = await start_told(
        routed("bard", variant(VariantRole.STABLE, 1, 100, good.url), variant(VariantRole.CANDIDATE, 2, 0, bad.url)),
    )
    for _ in range(3):
        assert (await ask(http, told))[0] == 200
    assert (await ask(http, told, stream=True))[0] == 200
    async with http.post(f"{told.url}/v1/chat/completions", json=CHAT, headers={"x-quantry-variant": "candidate"}) as response:
        assert response.status >= 500
    stable = await told.until_tally("rel_1", lambda tally: tally.num_answered == 4)
    assert (stable.e2e_s.num, stable.ttft_s.num, stable.num_failed) == (4, 1, 0)
    candidate = await told.until_tally("rel_2", lambda tally: tally.num_failed == 1)
    assert candidate.num_answered == 0


async def test_what_was_not_told_yet_is_told_when_the_gateway_stops(tmp_path: Path, start_engines: StartEngines) -> None:
    [engine] = await start_engines(answer_normally)
    route = routed("bard", variant(VariantRole.STABLE, 1, 100, engine.url), capture=CaptureSettings(percent=100))
    slow: dict[str, object] = {"gateway_report_interval_s": 60, "gateway_feedback_settle_s": 60.0}
    async with telling_gateway(tmp_path, route, KeyLimits(), **slow) as told:
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as http:
            _, _, answer = await ask(http, told)
            async with http.post(f"{told.url}/v1/feedback", json={"id": answer["id"], "approves": True}) as response:
                assert response.status == 200
        assert told.api.reports == []
    tally = told.tally("rel_1")
    assert (tally.num_answered, tally.num_approved) == (1, 1)
    [report] = told.api.captures
    assert [json.loads(prompt.body) for prompt in report.prompts] == [CHAT["messages"]]


async def test_feedback_by_the_answers_id_and_by_the_requests(
    start_told: StartTold, start_engines: StartEngines, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    told = await start_told(routed("bard", variant(VariantRole.STABLE, 1, 100, engine.url)), gateway_feedback_settle_s=0.2)
    _, fields, answer = await ask(http, told)

    async def judge(word: dict[str, object], key: str = KEY) -> tuple[int, Any]:
        async with http.post(f"{told.url}/v1/feedback", json=word, headers={"authorization": f"Bearer {key}"}) as response:
            return response.status, await response.json()

    assert await judge({"id": answer["id"], "approves": True}) == (200, {"object": "feedback", "id": answer["id"], "approves": True})
    assert (await judge({"id": fields["x-request-id"], "approves": False}))[0] == 200
    status, error = await judge({"id": answer["id"], "approves": True}, OTHER_KEY)
    assert (status, error["error"]["code"], error["error"]["param"]) == (404, "answer_not_found", "id")
    assert (await judge({"id": "chatcmpl-nobodys", "approves": True}))[0] == 404
    status, error = await judge({"id": answer["id"]})
    assert (status, error["error"]["code"], error["error"]["param"]) == (400, "invalid_feedback", "approves")
    assert (await judge({"id": "x" * 20_000, "approves": True}))[0] == 413
    tally = await told.until_tally("rel_1", lambda tally: tally.num_approved + tally.num_disapproved > 0)
    assert (tally.num_approved, tally.num_disapproved) == (0, 1)
    status, error = await judge({"id": answer["id"], "approves": True})
    assert (status, error["error"]["code"]) == (409, "feedback_settled")
    async with http.get(f"{told.url}/v1/feedback") as response:
        assert response.status == 405


async def test_a_limited_key_gets_429_and_is_told_when_to_come_again(start_told: StartTold, start_engines: StartEngines) -> None:
    [engine] = await start_engines(answer_normally)
    told = await start_told(routed("bard", variant(VariantRole.STABLE, 1, 100, engine.url)), KeyLimits(requests_per_minute=2))
    async with openai.AsyncOpenAI(base_url=f"{told.url}/v1", api_key=KEY, max_retries=0) as client:
        for left in ("1", "0"):
            answer = await client.chat.completions.with_raw_response.create(model="bard", messages=[{"role": "user", "content": "To be"}])
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
            assert answer.headers["x-ratelimit-remaining-requests"] == left
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="bard", messages=[{"role": "user", "content": "To be"}])
        assert caught.value.code == "rate_limit_exceeded"
        assert 55 <= int(caught.value.response.headers["retry-after"]) <= 60
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        assert [model.id async for model in client.models.list()] == ["bard"]
    assert len(engine.bodies) == 2
    tally = await told.until_tally("rel_1", lambda tally: tally.num_answered == 2)
    assert tally.num_refused == 0, "a key's limit says nothing of a release"


async def test_a_streams_tokens_are_charged_as_it_says_or_by_its_events(
    start_told: StartTold, start_engines: StartEngines, http: aiohttp.ClientSession
) -> None:
    async def with_usage(request: Any) -> Any:
        usage = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}\n\n'
        return await stream(request, [b'data: {"id":"c1","choices":[{"delta":{"content":"or"}}]}\n\n', usage, b"data: [DONE]\n\n"])

    [says, says_not] = await start_engines(with_usage, answer_normally)
    route = routed("bard", variant(VariantRole.STABLE, 1, 100, says.url), variant(VariantRole.CANDIDATE, 2, 0, says_not.url))
    told = await start_told(route, KeyLimits(tokens_per_minute=52))
    status, fields, _ = await ask(http, told, stream=True)
    assert (status, fields["x-ratelimit-remaining-tokens"]) == (200, "52")
    async with http.post(
        f"{told.url}/v1/chat/completions", json=CHAT | {"stream": True}, headers={"x-quantry-variant": "candidate"}
    ) as response:
        assert (response.status, response.headers["x-ratelimit-remaining-tokens"]) == (200, "2")
        await response.read()
    status, fields, error = await ask(http, told)
    assert (status, error["error"]["code"], fields["x-ratelimit-remaining-tokens"]) == (429, "rate_limit_exceeded", "0")


async def test_a_key_without_limits_sees_nothing_of_them(
    start_told: StartTold, start_engines: StartEngines, http: aiohttp.ClientSession
) -> None:
    [engine] = await start_engines(answer_normally)
    told = await start_told(routed("bard", variant(VariantRole.STABLE, 1, 100, engine.url)))
    for _ in range(5):
        status, fields, _ = await ask(http, told)
        assert status == 200
        assert not [name for name in fields if name.startswith("x-ratelimit")]


async def test_a_shadow_is_compared_and_nobody_sees_it(start_told: StartTold, stack: AsyncExitStack, http: aiohttp.ClientSession) -> None:
    stable, candidate = GreedyEngine([("a", -0.5), ("b", -0.5)]), GreedyEngine([("a", -0.5), ("x", -0.5)])
    stable_url = await stack.enter_async_context(serving(stable.handle))
    candidate_url = await stack.enter_async_context(serving(candidate.handle))
    route = routed(
        "bard",
        variant(VariantRole.STABLE, 1, 100, stable_url),
        variant(VariantRole.CANDIDATE, 2, 0, candidate_url),
        mirror=Mirror(percent=100, max_tokens=2),
        capture=CaptureSettings(percent=100),
    )
    told = await start_told(route, KeyLimits(requests_per_minute=3))
    for _ in range(3):
        status, fields, _ = await ask(http, told, max_tokens=2, user="will")
        assert (status, fields["x-quantry-release"]) == (200, "1")
    tally = await told.until_tally("rel_2", lambda tally: tally.pairs.num_pairs == 3)
    assert (tally.pairs.disagreement_sum, tally.pairs.divergence_sum) == (1.5, 0.0)
    assert (tally.num_judged, tally.e2e_s.num) == (0, 0)
    assert told.tally("rel_1").num_answered == 3
    assert [asked.get("user") for asked in stable.asked].count("will") == 3
    assert len(stable.asked) == 6
    assert all(asked["logprobs"] is True for asked in candidate.asked)

    async def are_captured() -> bool:
        return sum(len(report.prompts) for report in told.api.captures) == 3

    await until(are_captured)


async def test_who_waits_for_a_replica_is_told(start_told: StartTold, http: aiohttp.ClientSession) -> None:
    told = await start_told(routed("bard", variant(VariantRole.STABLE, 1, 100), wakes=False), gateway_ready_wait_s=0.3)
    assert (await ask(http, told))[0] == 503
    demands = [demand for report in told.api.reports for demand in report.demands]
    assert demands
    assert {(demand.deployment_id, demand.num_waiting) for demand in demands} == {("dep_bard", 1)}


async def _break_off(request: Any) -> Any:
    cut(request)
