"""A shadow: live requests asked once more of both releases, while they have little to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from factories.gateway import serving, until
from factories.greedy_engine import GreedyEngine
from factories.outcomes import outcome, table_of, watched_route
from quantry_core.routes import Mirror, Route, RouteSnapshot
from quantry_core.traffic import PairTally
from quantry_gateway.balancer import Balancer
from quantry_gateway.ejection import Ejection
from quantry_gateway.mirrors import Mirrors
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.queues import Queues
from quantry_gateway.sampling import WatchedDeployments
from quantry_gateway.table import RouteTable, compile_routes
from quantry_gateway.tallies import Tallies

MIRROR = Mirror(percent=100, max_tokens=8)


@dataclass
class Shadow:
    """Mirrors at work between two engines."""

    stable: GreedyEngine
    candidate: GreedyEngine
    table: RouteTable
    balancer: Balancer
    queues: Queues
    tallies: Tallies
    mirrors: Mirrors

    @property
    def route(self) -> Route:
        assert self.table.current is not None
        return self.table.current.of_project("prj_1")["bard"]

    async def pairs(self, num: int) -> PairTally:
        """Returns what was counted of the candidate once that are so many pairs."""
        tally = PairTally()

        async def are_counted() -> bool:
            nonlocal tally
            for window in self.tallies.cut():
                assert window.release_id == "rel_2"
                assert window.tally.num_judged == 0
                tally = tally.merged(window.tally.pairs)
            return tally.num_pairs >= num

        await until(are_counted)
        return tally

    async def dropped(self, num: int) -> None:
        """Returns once so many requests were dropped."""

        async def are_dropped() -> bool:
            return self.mirrors.num_dropped >= num

        await until(are_dropped)


@asynccontextmanager
async def shadowing(
    stable: GreedyEngine,
    candidate: GreedyEngine,
    *,
    patience_s: float = 2.0,
    max_waiting: int = 32,
    chance: float = 0.0,
    max_requests: int = 4,
) -> AsyncIterator[Shadow]:
    """Runs mirrors between two engines for as long as the block does."""
    async with serving(stable.handle) as stable_url, serving(candidate.handle) as candidate_url, aiohttp.ClientSession() as session:
        table = table_of(
            watched_route(stable_urls=(stable_url,), candidate_urls=(candidate_url,), mirror=MIRROR, max_requests=max_requests)
        )
        balancer = Balancer(Ejection(after=3, first_s=1.0, longest_s=10.0, clock_s=time.monotonic))
        queues, tallies = Queues(balancer, max_waiting=10, wait_s=5.0), Tallies()
        mirrors = Mirrors(
            WatchedDeployments(table),
            tallies,
            session,
            balancer,
            queues,
            concurrency=1,
            max_waiting=max_waiting,
            patience_s=patience_s,
            timeout_s=0.5,
            chance=lambda: chance,
        )
        running = asyncio.create_task(mirrors.run())
        try:
            yield Shadow(stable, candidate, table, balancer, queues, tallies, mirrors)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for release in ("rep_1_0", "rep_2_0"):
                assert balancer.num_outstanding(release) == 0


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_both_are_asked_the_same_and_compared(path: str) -> None:
    stable = GreedyEngine([("a", -0.5), ("b", -0.5), ("c", -0.5), ("d", -0.5)])
    candidate = GreedyEngine([("a", -0.75), ("x", -0.5), ("c", -0.5), ("d", -0.5)])
    async with shadowing(stable, candidate) as shadow:
        body = b'{"model":"bard","prompt":"To be","temperature":1}' if path == "/v1/completions" else outcome().body
        for _ in range(3):
            shadow.mirrors.tell(outcome(path=path, body=body))
        pairs = await shadow.pairs(3)
    assert (pairs.num_pairs, pairs.num_failed) == (3, 0)
    assert pairs.disagreement_sum == pytest.approx(0.75)
    assert pairs.divergence_sum == pytest.approx(0.75)
    assert stable.asked == candidate.asked
    assert len(stable.asked) == 3
    assert stable.asked[0]["temperature"] == 0
    assert stable.asked[0]["max_tokens"] == 8
    assert "user" not in stable.asked[0]


async def test_where_engines_can_the_candidate_scores_what_the_stable_release_wrote() -> None:
    stable, candidate = GreedyEngine([("a", -0.5), ("b", -0.5)]), GreedyEngine([("x", -0.5), ("y", -0.5)])
    stable.scores, candidate.scores = [], [(3, -1.5), (1, -1.0)]
    async with shadowing(stable, candidate) as shadow:
        shadow.mirrors.tell(outcome())
        pairs = await shadow.pairs(1)
    assert (pairs.num_pairs, pairs.num_failed) == (1, 0)
    assert (pairs.disagreement_sum, pairs.divergence_sum) == (0.5, 0.75)
    assert len(stable.asked) == 1
    answered, scored = candidate.asked
    assert answered == stable.asked[0]
    assert scored["prompt"] == [1, 2, 3, 100, 101]


async def test_where_a_candidate_takes_no_scores_its_own_answer_is_compared() -> None:
    class Older(GreedyEngine):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            if "prompt_logprobs" in await request.json():
                return web.Response(status=400)
            return await super().handle(request)

    stable, candidate = GreedyEngine([("a", -0.5), ("b", -0.5)]), Older([("a", -0.5), ("y", -0.5)])
    stable.scores = []
    async with shadowing(stable, candidate) as shadow:
        shadow.mirrors.tell(outcome())
        pairs = await shadow.pairs(1)
    assert (pairs.num_pairs, pairs.num_failed, pairs.disagreement_sum) == (1, 0, 0.5)


async def test_scores_that_are_not_finite_are_a_failed_pair() -> None:
    stable, candidate = GreedyEngine([("a", -0.5)]), GreedyEngine([("a", -0.5)])
    stable.scores, candidate.scores = [], [(1, float("nan"))]
    async with shadowing(stable, candidate) as shadow:
        shadow.mirrors.tell(outcome())
        pairs = await shadow.pairs(1)
    assert (pairs.num_pairs, pairs.num_failed) == (1, 1)


@pytest.mark.parametrize("trouble", ["status", "cut", "hang", "nan"])
async def test_a_candidate_that_does_not_answer_is_a_failed_pair(trouble: str) -> None:
    candidate = GreedyEngine([("a", None)])
    match trouble:
        case "status":
            candidate.status = 500
        case "cut":
            candidate.is_cut = True
        case "hang":
            candidate.free.clear()
        case _:
            pass
    async with shadowing(GreedyEngine(), candidate) as shadow:
        shadow.mirrors.tell(outcome())
        pairs = await shadow.pairs(1)
    assert (pairs.num_pairs, pairs.num_failed, pairs.disagreement_sum) == (1, 1, 0.0)


async def test_a_stable_release_that_does_not_answer_says_nothing_of_the_candidate() -> None:
    stable = GreedyEngine()
    stable.status = 503
    async with shadowing(stable, GreedyEngine()) as shadow:
        shadow.mirrors.tell(outcome())
        await shadow.dropped(1)
        assert shadow.candidate.asked == []
        stable.status = 200
        shadow.mirrors.tell(outcome())
        assert (await shadow.pairs(1)).num_failed == 0


async def test_only_a_share_of_answered_generations_is_asked_again() -> None:
    async with shadowing(GreedyEngine(), GreedyEngine(), chance=0.999) as shadow:
        for kind in OutcomeKind:
            if kind is not OutcomeKind.ANSWERED:
                shadow.mirrors.tell(outcome(kind))
        shadow.mirrors.tell(outcome(path="/v1/embeddings"))
        shadow.mirrors.tell(outcome(deployment_id="dep_2"))
        shadow.mirrors.tell(outcome())
        assert (await shadow.pairs(1)).num_pairs == 1
        assert len(shadow.stable.asked) == 1
        shadow.mirrors._chance = lambda: 0.5
        half = watched_route(mirror=Mirror(percent=50, max_tokens=8))
        shadow.table.swap(compile_routes(RouteSnapshot(revision=2, routes=[half], keys=[])))
        shadow.mirrors.tell(outcome())
        assert not shadow.mirrors._waiting


async def test_what_has_no_prompt_is_dropped_and_the_next_is_asked() -> None:
    async with shadowing(GreedyEngine(), GreedyEngine()) as shadow:
        for body in (b'{"model":"bard"}', b'{"model":"adapter","messages":[{}]}', b"x" * (1024**2 + 1)):
            shadow.mirrors.tell(outcome(body=body))
        shadow.mirrors.tell(outcome())
        assert (await shadow.pairs(1)).num_pairs == 1
        assert shadow.mirrors.num_dropped == 3


async def test_one_is_asked_at_a_time_and_those_beyond_the_queue_are_dropped() -> None:
    stable = GreedyEngine()
    stable.free.clear()
    async with shadowing(stable, GreedyEngine(), max_waiting=2) as shadow:
        shadow.mirrors.tell(outcome())

        async def is_asked() -> bool:
            return len(stable.asked) == 1

        await until(is_asked)
        for _ in range(5):
            shadow.mirrors.tell(outcome())
        assert shadow.mirrors.num_dropped == 3
        stable.free.set()
        assert (await shadow.pairs(3)).num_pairs == 3
        assert stable.most_at_once == shadow.candidate.most_at_once == 1


async def test_busy_replicas_are_left_alone() -> None:
    async with shadowing(GreedyEngine(), GreedyEngine(), patience_s=0.2) as shadow:
        turns = [shadow.balancer.take(shadow.route.variants[1].replicas) for _ in range(3)]
        shadow.mirrors.tell(outcome())
        await shadow.dropped(1)
        assert shadow.candidate.asked == []
        for turn in turns:
            assert turn is not None
            shadow.balancer.give_back(turn)
        shadow.mirrors.tell(outcome())
        assert (await shadow.pairs(1)).num_pairs == 1


async def test_a_replica_that_failed_lately_is_left_to_live_requests() -> None:
    async with shadowing(GreedyEngine(), GreedyEngine(), patience_s=0.2) as shadow:
        replicas = shadow.route.variants[1].replicas
        turn = shadow.balancer.take(replicas)
        assert turn is not None
        shadow.balancer.failed(turn, at_once=True)
        shadow.balancer.give_back(turn)
        await asyncio.sleep(1.01)
        assert shadow.balancer.is_usable(replicas)
        shadow.mirrors.tell(outcome())
        await shadow.dropped(1)
        assert shadow.candidate.asked == []
        live = shadow.balancer.take(replicas)
        assert live is not None and live.on_trial
        shadow.balancer.succeeded(live)
        shadow.balancer.give_back(live)
        shadow.mirrors.tell(outcome())
        assert (await shadow.pairs(1)).num_pairs == 1


async def test_a_mirrored_request_counts_at_its_replica_and_hands_its_room_on() -> None:
    stable = GreedyEngine()
    stable.free.clear()
    async with shadowing(stable, GreedyEngine(), max_requests=1) as shadow:
        shadow.mirrors.tell(outcome())

        async def is_asked() -> bool:
            return len(stable.asked) == 1

        await until(is_asked)
        replicas = shadow.route.variants[0].replicas
        assert shadow.balancer.take(replicas) is None
        live = asyncio.create_task(shadow.queues.take("rel_1", lambda: replicas))
        await asyncio.sleep(0.01)
        assert not live.done()
        stable.free.set()
        async with asyncio.timeout(1):
            turn = await live
        shadow.queues.give_back("rel_1", turn)
        await shadow.pairs(1)


async def test_when_the_shadow_is_over_what_waits_is_dropped() -> None:
    stable = GreedyEngine()
    async with shadowing(stable, GreedyEngine()) as shadow:
        turns = [shadow.balancer.take(shadow.route.variants[0].replicas) for _ in range(4)]
        shadow.mirrors.tell(outcome())
        shadow.mirrors.tell(outcome())
        over = watched_route(candidate_urls=None)
        shadow.table.swap(compile_routes(RouteSnapshot(revision=2, routes=[over], keys=[])))
        await shadow.dropped(2)
        for turn in turns:
            assert turn is not None
            shadow.balancer.give_back(turn)
    assert stable.asked == []
