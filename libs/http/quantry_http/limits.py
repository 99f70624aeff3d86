"""How often clients may ask: counted in this process, in windows of a minute, by the library ``limits``."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Annotated

from fastapi import Depends, Request
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from quantry_core.errors import TooManyRequests
from quantry_core.keys import Identity, Role
from quantry_http.settings import HttpSettings

MAX_WINDOWS = 50_000
"""Keys and addresses that are counted at once; beyond, those that were not heard of for longest are forgotten."""
MAX_GOOD_KEYS = 10_000
UNKNOWN_ADDRESS = "unknown"

_MACHINES = frozenset({Role.WORKER, Role.GATEWAY})


@dataclass
class _Window:
    ends_s: float
    num_used: int = 0


class Windows(Storage):
    """Fixed windows in memory, for one event loop: the library's own starts a thread to forget them. Times are those of ``clock_s``."""

    STORAGE_SCHEME = None

    def __init__(self, *, clock_s: Callable[[], float]) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """There is nothing outside of this process that could fail."""
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Uses units of a key's window, which begins with the first; returns how many are used now."""
        window = self._current(key)
        if window is None:
            window = self._windows[key] = _Window(self._clock_s() + expiry)
            if len(self._windows) > MAX_WINDOWS:
                self._windows.popitem(last=False)
        self._windows.move_to_end(key)
        window.num_used += amount
        return window.num_used

    def get(self, key: str) -> int:
        """Returns how many units of a key are used now."""
        window = self._current(key)
        return 0 if window is None else window.num_used

    def get_expiry(self, key: str) -> float:
        """Returns when a key's window ends; now where there is none."""
        window = self._current(key)
        return self._clock_s() if window is None else window.ends_s

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Forgets everything; returns how many windows there were."""
        num_windows = len(self._windows)
        self._windows.clear()
        return num_windows

    def clear(self, key: str) -> None:
        """Forgets one key."""
        self._windows.pop(key, None)

    def _current(self, key: str) -> _Window | None:
        window = self._windows.get(key)
        if window is not None and window.ends_s <= self._clock_s():
            del self._windows[key]
            return None
        return window


class RequestLimits:
    """What one service process lets through. All methods raise TooManyRequests, which says when to come again."""

    def __init__(self, settings: HttpSettings, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._windows = Windows(clock_s=clock_s)
        self._limiter = FixedWindowRateLimiter(self._windows)
        self._requests = RateLimitItemPerMinute(settings.requests_per_minute, namespace="requests")
        self._failures = RateLimitItemPerMinute(settings.failed_keys_per_minute, namespace="failures")
        self._enrolments = RateLimitItemPerMinute(settings.enrolments_per_minute, namespace="enrolments")
        self._good: OrderedDict[str, None] = OrderedDict()

    def admit_address(self, address: str, key_hash: str) -> None:
        """Refuses an address that sent too many wrong keys, before anybody looks this one up. A key that was good lately passes: behind
        one address there may be many people."""
        if key_hash not in self._good and not self._limiter.test(self._failures, address):
            raise self._too_many(self._failures, address, f"too many wrong keys came from {address}")

    def note_wrong(self, address: str, key_hash: str) -> None:
        """Counts a wrong key of an address."""
        self._good.pop(key_hash, None)
        self._limiter.hit(self._failures, address)

    def admit_key(self, identity: Identity, key_hash: str) -> None:
        """Counts a request of a good key; machines' are not counted."""
        self._good[key_hash] = None
        self._good.move_to_end(key_hash)
        if len(self._good) > MAX_GOOD_KEYS:
            self._good.popitem(last=False)
        if identity.role not in _MACHINES and not self._limiter.hit(self._requests, identity.key_id):
            raise self._too_many(self._requests, identity.key_id, f"this key asked more than {self._requests.amount} times in a minute")

    def admit_enrolment(self, address: str) -> None:
        """Counts a one-time token that an address sends."""
        if not self._limiter.hit(self._enrolments, address):
            raise self._too_many(self._enrolments, address, f"too many one-time tokens came from {address}")

    def admit_session(self, address: str, per_minute: int) -> None:
        """Counts a sign-in by a provider that comes from an address."""
        item = RateLimitItemPerMinute(per_minute, namespace="sessions")
        if not self._limiter.hit(item, address):
            raise self._too_many(item, address, f"too many sign-ins came from {address}")

    def _too_many(self, item: RateLimitItem, who: str, sentence: str) -> TooManyRequests:
        wait_s = max(1, ceil(self._windows.get_expiry(item.key_for(who)) - self._clock_s()))
        return TooManyRequests(f"{sentence}; come again in {wait_s} s", retry_after_s=wait_s)


async def limits_of(request: Request) -> RequestLimits:
    """Returns what the service lets through that answers this request."""
    limits: RequestLimits = request.app.state.limits
    return limits


Limits = Annotated[RequestLimits, Depends(limits_of)]
"""The service's limits."""


def address_of(request: Request) -> str:
    """Returns the address of the client: behind a trusted proxy, the one that it forwards for."""
    return UNKNOWN_ADDRESS if request.client is None else request.client.host
