"""When a request is sent again, and after how long. Decided here without a clock; transports wait.

Only what may be done twice is repeated: reads, PUT, PATCH, DELETE, and POSTs that carry an Idempotency-Key or change nothing more the
second time. Of anything else, only a connection that never came about is tried again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from quantry_core.errors import PROBLEM_TYPE_PREFIX, IdempotencyKeyInFlight, Problem

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})
"""A PATCH sets what it is given to a value; setting it again changes nothing."""
_PASSING = frozenset({429, 503})
_IN_FLIGHT = PROBLEM_TYPE_PREFIX + IdempotencyKeyInFlight.slug
_TOLD_JITTER = 0.1


@dataclass(frozen=True)
class Retries:
    """How often, and how long apart. ``Retries(max_attempts=1)`` sends everything once."""

    max_attempts: int = 4
    """Of one request, the first included."""
    first_pause_s: float = 0.25
    """Doubled from attempt to attempt, and spread by a fifth to either side, so that many clients do not come back together."""
    longest_pause_s: float = 10.0
    longest_told_pause_s: float = 60.0
    """A server that asks for more by Retry-After is not asked again: the refusal is raised, and says how long."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts counts the first one too: 1 or more, not {self.max_attempts}")
        if min(self.first_pause_s, self.longest_pause_s, self.longest_told_pause_s) < 0:
            raise ValueError("a pause is 0 seconds or more")

    def pause_s(self, attempt: int) -> float:
        """Returns how long to wait after this attempt, counted from 1, where the server said nothing about it."""
        return float(min(self.first_pause_s * 2.0 ** (attempt - 1), self.longest_pause_s) * random.uniform(0.8, 1.2))

    def pause_after_s(self, response: httpx.Response, attempt: int) -> float | None:
        """Returns how long to wait after a refusal that passes; None where the server asks for more than is waited.

        What Retry-After says is never undercut: up to a tenth is added, so that all who were told the same do not come back together.
        """
        told_s = retry_after_s(response)
        if told_s is None:
            return self.pause_s(attempt)
        return None if told_s > self.longest_told_pause_s else told_s * random.uniform(1.0, 1.0 + _TOLD_JITTER)


def is_passing(problem: Problem) -> bool:
    """Tells whether a refusal is one of now: too many requests, not available, or a submission that is being worked on."""
    return problem.status in _PASSING or problem.type == _IN_FLIGHT


def is_hopeless(error: httpx.TransportError, *, is_repeatable: bool) -> bool:
    """Tells whether a request that got no answer is better not sent again: it may have arrived, or the server is too slow for it."""
    return was_sent(error) and (not is_repeatable or isinstance(error, httpx.TimeoutException))


def was_sent(error: httpx.TransportError) -> bool:
    """Tells whether something may have arrived. Without a connection nothing was sent, so that even a POST may be tried again."""
    return not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))


def retry_after_s(response: httpx.Response, now: datetime | None = None) -> float | None:
    """Returns the seconds of a Retry-After, written as a number or as a date; None where there is none that can be read.

    ``now``: this machine's clock where it is not given.
    """
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
