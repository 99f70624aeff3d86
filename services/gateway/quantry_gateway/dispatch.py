"""A request's way to a replica: which release, which replica of it, and who else where that one fails before it answers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from quantry_core.routes import Route, RoutedReplica, Variant, VariantRole
from quantry_gateway import openai_errors as errors
from quantry_gateway.balancer import Balancer
from quantry_gateway.demands import WaitingRoom
from quantry_gateway.exchange import Answer
from quantry_gateway.headers import RawHeaders, header_value
from quantry_gateway.openai_errors import OpenAIError
from quantry_gateway.outcomes import OutcomeKind
from quantry_gateway.peek import Fields
from quantry_gateway.queues import NothingLeft, QueueFull, Queues, WaitedTooLong
from quantry_gateway.records import Announcer, Asked, Record
from quantry_gateway.replicas import Dropped, Faulty, NotAnswered, ReplicaCaller, ReplicaRequest, TimedOut
from quantry_gateway.table import RouteTable
from quantry_gateway.variants import can_answer, client_of, known_names, named, pick, serving, sticky_point

MAX_BROKEN = 2
"""Replicas of one release that may break off or fall silent over one request before the request itself is the suspect."""

MAX_FAULTY = 2
"""Replicas of one release that may answer one request with an error of theirs."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long requests wait, in seconds."""

    ready_wait_s: float
    wake_wait_s: float
    queue_wait_s: float
    retry_after_s: int


@dataclass(slots=True)
class Errand:
    """One request that a replica is to answer."""

    model: str
    asked: Asked
    request: ReplicaRequest
    headers: RawHeaders
    fields: Fields
    deadline: asyncio.Timeout | None = None
    """The gateway's own, not the client's: what runs past it is the release's failure."""


class Dispatcher:
    """Finds who answers. ``draw`` returns a random number of 0 <= number < 1 for each request that may go to either variant."""

    def __init__(
        self,
        table: RouteTable,
        balancer: Balancer,
        queues: Queues,
        caller: ReplicaCaller,
        *,
        waiting: WaitingRoom,
        announcer: Announcer,
        patience: Patience,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._table = table
        self._balancer = balancer
        self._queues = queues
        self._caller = caller
        self._waiting = waiting
        self._announcer = announcer
        self._patience = patience
        self._draw = draw

    async def serve(self, errand: Errand, answer: Answer) -> None:
        """Answers a request; raises OpenAIError where it cannot.

        Where every replica of a release failed before a byte was passed on, the other release is asked; so is the stable one where a
        candidate has no room. Nobody is failed by a candidate.
        """
        given = header_value(errand.headers, errors.VARIANT_FIELD.encode())
        if given is not None:
            wanted = given.decode("latin-1").strip().lower()
            route = await self._ready_route(errand, wanted)
            failure = await self._serve_in(route, self._named(route, wanted), errand, answer)
        else:
            route = await self._ready_route(errand, None)
            variant = self._pick(route, errand)
            failure = await self._serve_in(route, variant, errand, answer)
            if failure is not None and (other := self._stand_in(variant, errand)) is not None:
                failure = await self._serve_in(route, other, errand, answer)
        if failure is not None:
            await failure.send(answer)

    async def _ready_route(self, errand: Errand, wanted: str | None) -> Route:
        """Returns the request's route. Where it has no replica, waits: for a moment, or for those that its waiting brings up."""
        route = self._route(errand)
        if can_answer(route, wanted):
            return route
        wait_s = self._patience.wake_wait_s if route.wakes else self._patience.ready_wait_s
        not_ready = errors.no_replica_ready(errand.model, self._patience.retry_after_s)
        if not self._waiting.has_room(route.deployment_id):
            raise not_ready
        try:
            async with asyncio.timeout(wait_s):
                with self._waiting.waiting(route.deployment_id):
                    while not can_answer(route, wanted):
                        await self._table.next_swap()
                        route = self._route(errand)
        except TimeoutError:
            raise not_ready from None
        return route

    def _route(self, errand: Errand) -> Route:
        route = self._table.find(errand.asked.key.project_id, errand.model)
        if route is None:
            raise errors.model_not_found(errand.model)
        return route

    def _named(self, route: Route, wanted: str) -> Variant:
        variant = named(route, wanted)
        if variant is None:
            raise errors.unknown_variant(wanted, known_names(route))
        if not self._balancer.is_usable(variant.replicas):
            raise errors.variant_not_ready(wanted, self._patience.retry_after_s)
        return variant

    def _pick(self, route: Route, errand: Errand) -> Variant:
        variants = [variant for variant in serving(route) if self._balancer.is_usable(variant.replicas)]
        if not variants:
            # The releases' circuits are open. The one that would have answered is told of it.
            variant = pick([variant for variant in serving(route) if variant.replicas], self._draw())
            failed = Record(route.deployment_id, variant.release_id, time.monotonic(), kind=OutcomeKind.FAILED)
            self._announcer.tell(failed, errand.asked)
            raise errors.nothing_answers(errand.model, self._patience.retry_after_s)
        if len(variants) == 1:
            return variants[0]
        client = client_of(route.split, errand.headers, errand.fields) if route.split is not None else None
        return pick(variants, self._draw() if route.split is None or client is None else sticky_point(route.split.salt, client))

    def _stand_in(self, failed: Variant, errand: Errand) -> Variant | None:
        """Returns who may answer in place of a release that could not, as the newest routes have it."""
        route = self._table.find(errand.asked.key.project_id, errand.model)
        others = (variant for variant in (serving(route) if route is not None else ()) if variant.release_id != failed.release_id)
        return next((variant for variant in others if self._balancer.is_usable(variant.replicas)), None)

    async def _serve_in(self, route: Route, variant: Variant, errand: Errand, answer: Answer) -> NotAnswered | OpenAIError | None:
        """Has a release answer. Returns None once the answer has been passed on, else the failure that it is left with."""
        record = Record(route.deployment_id, variant.release_id, time.monotonic())
        answer.release_number = variant.release_number
        is_told = True
        try:
            failure = await self._try_replicas(variant, errand, answer, record)
            if failure is not None:
                # Without a try its replicas have gone meanwhile: that is no failure of theirs.
                is_told = record.num_tries > 0
                record.kind = OutcomeKind.FAILED
            return failure
        except (QueueFull, WaitedTooLong) as refusal:
            record.kind = OutcomeKind.REFUSED
            error = self._no_room(errand, refusal)
            if variant.role is VariantRole.CANDIDATE:
                return error
            # What the stable release has no room for is not a candidate's: that would be more than its share.
            raise error from None
        except OpenAIError:
            # The gateway's own limits: another replica would meet them too.
            record.kind = OutcomeKind.REFUSED
            raise
        except asyncio.CancelledError:
            if errand.deadline is not None and errand.deadline.expired():
                record.kind = OutcomeKind.FAILED
            raise
        finally:
            if is_told:
                self._announcer.tell(record, errand.asked)

    def _no_room(self, errand: Errand, refusal: QueueFull | WaitedTooLong) -> OpenAIError:
        if isinstance(refusal, QueueFull):
            return errors.queue_full(errand.model, self._patience.retry_after_s)
        return errors.waited_too_long(errand.model, self._patience.queue_wait_s, self._patience.retry_after_s)

    async def _try_replicas(self, variant: Variant, errand: Errand, answer: Answer, record: Record) -> NotAnswered | OpenAIError | None:
        find = partial(self._replicas_of, variant.release_id, errand)
        failure: NotAnswered | None = None
        tried: set[str] = set()
        num_broken = num_faulty = 0
        while num_broken < MAX_BROKEN and num_faulty < MAX_FAULTY:
            try:
                turn = await self._queues.take(variant.release_id, find, tried)
            except NothingLeft:
                break
            try:
                await self._caller.ask(turn, errand.request, answer, record)
                return None
            except NotAnswered as error:
                failure = error
            finally:
                self._queues.give_back(variant.release_id, turn)
            tried.add(turn.replica.id)
            num_faulty += isinstance(failure, Faulty)
            num_broken += isinstance(failure, (Dropped, TimedOut))
            if isinstance(failure, Dropped) and not self._balancer.is_usable(find(), tried):
                # A kept connection may have been closed just as it was used: a lone replica gets a second chance.
                tried.discard(turn.replica.id)
        return failure or errors.nothing_answers(errand.model, self._patience.retry_after_s)

    def _replicas_of(self, release_id: str, errand: Errand) -> Sequence[RoutedReplica]:
        """Returns a release's replicas as the newest routes have them: none once it is no longer served."""
        route = self._table.find(errand.asked.key.project_id, errand.model)
        if route is not None:
            for variant in route.variants:
                if variant.release_id == release_id:
                    return variant.replicas
        return ()
