"""Where what is told of requests plugs into their path: sinks of outcomes, limits of keys, feedback, and work beside the requests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from quantry_core.routes import RoutedKey
from quantry_gateway.balancer import Balancer
from quantry_gateway.demands import WaitingRoom
from quantry_gateway.exchange import Answer, Request
from quantry_gateway.headers import RawHeaders
from quantry_gateway.outcomes import OutcomeSink
from quantry_gateway.queues import Queues
from quantry_gateway.settings import GatewaySettings
from quantry_gateway.table import RouteTable


class KeyLimiter(Protocol):
    """What each key may ask of the data plane."""

    def admit(self, key: RoutedKey) -> float | None:
        """Counts one request of a key; returns the seconds to wait where it may not be made now, None where it may."""

    def fields(self, key: RoutedKey) -> RawHeaders:
        """Returns the x-ratelimit-* fields that say what a key has left; none for a key without limits."""

    def spend(self, key: RoutedKey, num_tokens: int) -> None:
        """Counts the tokens of an answer: known only once it has ended, they count against the requests that follow."""


class FeedbackDoor(Protocol):
    """Answers POST /v1/feedback. Raises OpenAIError for what it refuses."""

    async def answer(self, request: Request, answer: Answer, key: RoutedKey) -> None:
        """Answers one request of a known key."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What listeners may use of the gateway."""

    settings: GatewaySettings
    table: RouteTable
    balancer: Balancer
    queues: Queues
    waiting: WaitingRoom
    engines: aiohttp.ClientSession
    services: aiohttp.ClientSession


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is plugged in. ``background`` runs from the start of the gateway to its end, when it is cancelled and waited for."""

    sinks: tuple[OutcomeSink, ...] = ()
    limits: KeyLimiter | None = None
    feedback: FeedbackDoor | None = None
    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()
