"""Two releases behind one name: shares, clients that stay with one, and one that stands in for the other."""

from __future__ import annotations

from collections import Counter

import aiohttp
import pytest
from aiohttp import web

from factories.gateway import (
    COMPLETION_ANSWER,
    StartEngines,
    StartRouted,
    answer_normally,
    chat_event,
    cut,
    drop_before_answer,
    refusing_url,
    route,
    routed,
    stream,
    until,
    variant,
)
from quantry_core.routes import Split, VariantRole
from quantry_core.strategies import StickyBy
from quantry_gateway.outcomes import OutcomeKind

ASK = {"model": "bard", "prompt": "To be"}
STABLE, CANDIDATE = VariantRole.STABLE, VariantRole.CANDIDATE


async def release_of(http: aiohttp.ClientSession, url: str, *, headers: dict[str, str] | None = None, **more: object) -> str:
    async with http.post(f"{url}/v1/completions", json=ASK | more, headers=headers or {}) as answer:
        assert answer.status == 200
        return answer.headers["x-quantry-release"]


async def error_of(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    async with http.post(f"{url}/v1/completions", json=ASK, headers=headers) as answer:
        return answer.status, (await answer.json())["error"]


async def test_requests_are_dealt_out_by_the_shares_and_say_who_answered(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    stable, candidate = await start_engines(answer_normally, answer_normally)
    gateway = await start_routed(routed("bard", variant(STABLE, 3, 70, stable.url), variant(CANDIDATE, 4, 30, candidate.url)))
    answered = Counter([await release_of(http, gateway.url) for _ in range(300)])
    # Five standard deviations of a share of 30% among 300 are 40 requests.
    assert abs(answered["4"] - 90) < 40
    assert (len(stable.bodies), len(candidate.bodies)) == (answered["3"], answered["4"])
    assert Counter(gateway.told()) == {("rel_3", OutcomeKind.ANSWERED): answered["3"], ("rel_4", OutcomeKind.ANSWERED): answered["4"]}


async def test_a_change_of_shares_counts_from_the_next_request_on(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    stable, candidate = await start_engines(answer_normally, answer_normally)
    variants = (variant(STABLE, 3, 0, stable.url), variant(CANDIDATE, 4, 100, candidate.url))
    gateway = await start_routed(routed("bard", *variants))
    assert {await release_of(http, gateway.url) for _ in range(5)} == {"4"}
    gateway.publish(route("bard", stable.url), route("other"))

    async def knows_other() -> bool:
        async with http.get(f"{gateway.url}/v1/models") as answer:
            return len((await answer.json())["data"]) == 2

    await until(knows_other, timeout_s=1.0)
    num_before = len(candidate.bodies)
    assert {await release_of(http, gateway.url) for _ in range(20)} == {"1"}
    assert len(candidate.bodies) == num_before


async def test_a_client_stays_with_its_release(start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession) -> None:
    stable, candidate = await start_engines(answer_normally, answer_normally)
    variants = (variant(STABLE, 3, 50, stable.url), variant(CANDIDATE, 4, 50, candidate.url))
    by_user = Split(by=StickyBy.USER, salt="rol_1")
    by_header = Split(by=StickyBy.HEADER, header="x-tenant", salt="rol_1")
    by_hash = Split(by=StickyBy.HASH, salt="rol_1")
    gateway = await start_routed(
        routed("bard", *variants, split=by_user), routed("tenants", *variants, split=by_header), routed("prompts", *variants, split=by_hash)
    )
    seen: dict[str, set[str]] = {}
    for _ in range(3):
        for name in map(str, range(12)):
            seen.setdefault(f"user {name}", set()).add(await release_of(http, gateway.url, user=name))
            told = await release_of(http, gateway.url, model="tenants", headers={"x-tenant": name})
            seen.setdefault(f"tenant {name}", set()).add(told)
            seen.setdefault(f"prompt {name}", set()).add(await release_of(http, gateway.url, model="prompts", prompt=name))
    assert all(len(releases) == 1 for releases in seen.values())
    for kind in ("user", "tenant", "prompt"):
        assert set().union(*(releases for name, releases in seen.items() if name.startswith(kind))) == {"3", "4"}
    # Who is not known is dealt out anew each time.
    assert {await release_of(http, gateway.url) for _ in range(40)} == {"3", "4"}


async def test_a_request_may_name_its_variant(start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession) -> None:
    stable, candidate = await start_engines(answer_normally, answer_normally)
    gateway = await start_routed(
        routed("bard", variant(STABLE, 3, 100, stable.url), variant(CANDIDATE, 4, 0, candidate.url)),
        routed("empty", variant(STABLE, 3, 90, stable.url), variant(CANDIDATE, 4, 10)),
        gateway_ready_wait_s=20,
    )
    for wanted, number in (("stable", "3"), ("3", "3"), ("candidate", "4"), ("4", "4"), (" Candidate ", "4")):
        assert await release_of(http, gateway.url, headers={"x-quantry-variant": wanted}) == number
    # Without a share it gets nothing that does not ask for it.
    assert {await release_of(http, gateway.url) for _ in range(20)} == {"3"}

    status, error = await error_of(http, gateway.url, {"x-quantry-variant": "5"})
    assert (status, error["code"], error["param"]) == (400, "unknown_variant", "x-quantry-variant")
    assert "stable, 3, candidate, 4" in error["message"]
    async with http.post(
        f"{gateway.url}/v1/completions", json=ASK | {"model": "empty"}, headers={"x-quantry-variant": "candidate"}
    ) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert (await answer.json())["error"]["code"] == "variant_not_ready"


async def test_a_named_variant_that_fails_is_not_replaced(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    stable, candidate = await start_engines(answer_normally, drop_before_answer)
    gateway = await start_routed(routed("bard", variant(STABLE, 3, 50, stable.url), variant(CANDIDATE, 4, 50, candidate.url)))
    status, error = await error_of(http, gateway.url, {"x-quantry-variant": "candidate"})
    assert (status, error["code"]) == (502, "upstream_failed")
    assert stable.bodies == []


async def fail_with_500(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="EngineDeadError")


async def fail_at_once_in_a_stream(request: web.Request) -> web.StreamResponse:
    return await stream(request, [b'data: {"error":{"message":"EngineCore died","code":500}}\n\n', b"data: [DONE]\n\n"])


async def cut_before_the_first_event(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(chat_event("To")[:30])
    cut(request)
    return response


@pytest.mark.parametrize("faulty", [drop_before_answer, fail_with_500, fail_at_once_in_a_stream, cut_before_the_first_event, None])
async def test_a_dying_candidate_costs_no_client_its_answer(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession, faulty: object
) -> None:
    [stable, *dying] = await start_engines(answer_normally, *([faulty, faulty] if faulty is not None else []))
    urls = [engine.url for engine in dying] or [refusing_url(), refusing_url()]
    gateway = await start_routed(routed("bard", variant(STABLE, 3, 0, stable.url), variant(CANDIDATE, 4, 100, *urls)))
    is_streaming = faulty in {fail_at_once_in_a_stream, cut_before_the_first_event}
    for _ in range(10):
        async with http.post(f"{gateway.url}/v1/completions", json=ASK | {"stream": is_streaming}) as answer:
            assert (answer.status, answer.headers["x-quantry-release"]) == (200, "3")
            body = await answer.read()
            assert body.endswith(b"data: [DONE]\n\n") if is_streaming else body == COMPLETION_ANSWER
    told = Counter(gateway.told())
    assert told["rel_3", OutcomeKind.ANSWERED] == 10
    # Until both replicas are ejected each request counts against the candidate; then it gets none.
    assert 1 <= told["rel_4", OutcomeKind.FAILED] <= 6
    assert set(told) == {("rel_3", OutcomeKind.ANSWERED), ("rel_4", OutcomeKind.FAILED)}


async def test_the_share_of_a_release_without_replicas_goes_to_the_other(
    start_engines: StartEngines, start_routed: StartRouted, http: aiohttp.ClientSession
) -> None:
    stable, candidate = await start_engines(answer_normally, answer_normally)
    gateway = await start_routed(
        routed("bard", variant(STABLE, 3, 10, stable.url), variant(CANDIDATE, 4, 90)),
        routed("new", variant(STABLE, 3, 90), variant(CANDIDATE, 4, 10, candidate.url)),
    )
    assert {await release_of(http, gateway.url) for _ in range(20)} == {"3"}
    assert {await release_of(http, gateway.url, model="new") for _ in range(20)} == {"4"}
