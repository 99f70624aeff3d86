"""Shadow traffic: a share of live requests is asked of both releases once more, after its answer has gone out, and compared.

Nothing of it reaches a client, a key's limits, the latencies or the capture. It counts where it takes room: at the replicas.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import structlog
from yarl import URL

from quantry_core.routes import RoutedReplica, Variant, VariantRole
from quantry_gateway.balancer import Balancer, Turn
from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.pairs import CHAT_PATH, COMPLETIONS_PATH, NoPair, NotComparable, compare, model_of, pair_body, tokens_of
from quantry_gateway.queues import Queues
from quantry_gateway.sampling import WatchedDeployments
from quantry_gateway.scores import MAX_TOKENS, TokenScore, Written, compare_scored, score_body, scores_of, written_by
from quantry_gateway.tallies import Tallies

_MAX_BODY_BYTES = 1024**2
"""A longer request is not asked again: two more of these would be felt."""

_NOT_TAKEN_STATUSES = frozenset({400, 404, 405, 422, 501})
_BUSY_SHARE = 0.5
_LOOK_AGAIN_S = 0.05

_log = structlog.get_logger(__name__)


class Dropped(Exception):
    """The pair is not asked for: nothing mirrors any more, or the engines have better things to do."""


class AnswerFailed(Exception):
    """The replica gave no answer."""


class _NotTaken(AnswerFailed):
    """The engine does not know what it is asked for."""


@dataclass(frozen=True, slots=True)
class _Live:
    """What of a live request is asked again."""

    project_id: str
    path: str
    body: bytes


class Mirrors:
    """Asks for pairs, ``concurrency`` at a time. Of requests that wait for their turn it holds the first ``max_waiting``.

    A replica is asked while it has nothing else to do. The longer that does not happen, the more it may have under way, up to half of
    what it may have at all after ``patience_s``; then the pair is dropped.
    """

    def __init__(
        self,
        watched: WatchedDeployments,
        tallies: Tallies,
        session: aiohttp.ClientSession,
        balancer: Balancer,
        queues: Queues,
        *,
        concurrency: int,
        max_waiting: int,
        patience_s: float,
        timeout_s: float,
        clock_s: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._watched = watched
        self._tallies = tallies
        self._session = session
        self._balancer = balancer
        self._queues = queues
        self._concurrency = concurrency
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._clock_s = clock_s
        self._chance = chance
        self._waiting: deque[_Live] = deque()
        self._arrived = asyncio.Event()
        self.num_dropped = 0

    def tell(self, outcome: Outcome) -> None:
        """Takes a share of the answered requests of deployments that mirror."""
        mirror = self._watched.mirror_of(outcome.deployment_id)
        if mirror is None or outcome.kind is not OutcomeKind.ANSWERED or outcome.path not in {COMPLETIONS_PATH, CHAT_PATH}:
            return
        if self._chance() * 100 >= mirror.percent:
            return
        if len(self._waiting) >= self._max_waiting or len(outcome.body) > _MAX_BODY_BYTES:
            self.num_dropped += 1
            return
        self._waiting.append(_Live(outcome.project_id, outcome.path, outcome.body))
        self._arrived.set()

    async def run(self) -> None:
        """Asks until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._concurrency):
                workers.create_task(self._work())

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            live = self._waiting.popleft()
            try:
                await self._pair(live)
            except (Dropped, NoPair):
                self.num_dropped += 1
            except Exception:  # a defect must not end the shadow of every deployment
                # Without the traceback: it could hold a prompt.
                _log.error("mirror.failed")

    async def _pair(self, live: _Live) -> None:
        """Asks the stable release, then the candidate, and counts what came of it. Raises Dropped or NoPair."""
        model = model_of(live.body)
        route = self._watched.mirrored_route(live.project_id, model)
        if route is None or route.mirror is None:
            raise Dropped
        body = pair_body(live.path, live.body, max_tokens=route.mirror.max_tokens)
        stable, candidate = _variant(route.variants, VariantRole.STABLE), _variant(route.variants, VariantRole.CANDIDATE)
        try:
            async with self._quiet_turn(stable) as replica:
                answer = await self._post(replica, live.path, body)
            expected = tokens_of(answer)
        except (AnswerFailed, NotComparable) as error:
            # It says nothing of the candidate.
            _log.info("mirror.stable_failed", release=stable.release_id, error=str(error))
            raise Dropped from None
        written = written_by(answer)
        if written is not None and len(written.prompt) + len(written.answer) > MAX_TOKENS:
            raise Dropped
        try:
            async with self._quiet_turn(candidate) as replica:
                own = tokens_of(await self._post(replica, live.path, body))
                scores = await self._scores(replica, model, written, len(expected))
            score = compare(expected, own) if scores is None else compare_scored(expected, scores, own)
        except (AnswerFailed, NotComparable) as error:
            _log.warning("mirror.candidate_failed", release=candidate.release_id, error=str(error))
            self._tallies.compare(candidate.release_id, None)
        else:
            self._tallies.compare(candidate.release_id, score)

    async def _scores(self, replica: RoutedReplica, model: str, written: Written | None, num_tokens: int) -> list[TokenScore] | None:
        """Returns the candidate's scores of the stable release's answer; None where one of their engines has none to give."""
        if written is None or len(written.answer) != num_tokens:
            return None
        try:
            return scores_of(await self._post(replica, COMPLETIONS_PATH, score_body(model, written)), written)
        except _NotTaken:
            return None

    async def _post(self, replica: RoutedReplica, path: str, body: bytes) -> bytes:
        """Returns the body of an answer; raises AnswerFailed."""
        try:
            async with self._session.post(
                URL(replica.url + path, encoded=True),
                data=body,
                headers={"content-type": "application/json"},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AnswerFailed(type(error).__name__) from error
        if response.status in _NOT_TAKEN_STATUSES:
            raise _NotTaken(f"status {response.status}")
        if response.status != 200:
            raise AnswerFailed(f"status {response.status}")
        return answer

    @asynccontextmanager
    async def _quiet_turn(self, variant: Variant) -> AsyncIterator[RoutedReplica]:
        """Yields a replica that has little to do, counted as busy meanwhile; raises Dropped where none has in time."""
        turn = await self._wait_for_quiet(variant)
        try:
            yield turn.replica
        finally:
            # By way of the queues: somebody may wait for the room that is free now.
            self._queues.give_back(variant.release_id, turn)

    async def _wait_for_quiet(self, variant: Variant) -> Turn:
        began_s = self._clock_s()
        while (waited := (self._clock_s() - began_s) / self._patience_s) < 1:
            quiet = [
                replica
                for replica in variant.replicas
                if self._balancer.num_outstanding(replica.id) <= waited * _BUSY_SHARE * replica.max_requests
            ]
            turn = self._balancer.take(quiet)
            if turn is not None and not turn.on_trial:
                return turn
            if turn is not None:
                # It failed lately. Whether it is well again is for a live request to find out, which says so to the others.
                self._queues.give_back(variant.release_id, turn)
            await asyncio.sleep(_LOOK_AGAIN_S)
        raise Dropped


def _variant(variants: list[Variant], role: VariantRole) -> Variant:
    """Returns the variant of a role; raises Dropped where there is none, or none that has a replica."""
    for variant in variants:
        if variant.role is role and variant.replicas:
            return variant
    raise Dropped
