"""What a key may ask in a minute: requests counted when they come, tokens when their answer has said how many."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.strategies import MovingWindowRateLimiter

from quantry_core.routes import RoutedKey
from quantry_gateway.headers import RawHeaders
from quantry_gateway.key_windows import KeyWindows

_REQUESTS = "requests"
_TOKENS = "tokens"


class RateLimits:
    """The limits of one gateway: each gateway process counts for itself, and begins at nothing.

    A changed limit begins at nothing too. For a key without limits nothing is counted.
    """

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._windows = KeyWindows(clock_s=clock_s)
        self._limiter = MovingWindowRateLimiter(self._windows)

    def admit(self, key: RoutedKey) -> float | None:
        """Counts one request of a key; returns the seconds to wait where it may not be made now, None where it may.

        A request that is not admitted is not counted. One answer may go beyond the tokens of a minute: what it went beyond is
        waited for by the next.
        """
        tokens, requests = _item(key.limits.tokens_per_minute), _item(key.limits.requests_per_minute)
        if tokens is not None and not self._limiter.test(tokens, _TOKENS, key.key_id):
            return self._wait_s(tokens, _TOKENS, key)
        if requests is not None and not self._limiter.hit(requests, _REQUESTS, key.key_id):
            return self._wait_s(requests, _REQUESTS, key)
        return None

    def spend(self, key: RoutedKey, num_tokens: int) -> None:
        """Counts the tokens of an answer, which its engine has made already, against the requests that follow."""
        tokens = _item(key.limits.tokens_per_minute)
        if tokens is not None:
            self._windows.incr(tokens.key_for(_TOKENS, key.key_id), tokens.get_expiry(), num_tokens)

    def fields(self, key: RoutedKey) -> RawHeaders:
        """Returns the x-ratelimit-* fields that say what a key has left; none for a key without limits."""
        fields: RawHeaders = []
        for name, limit in ((_REQUESTS, key.limits.requests_per_minute), (_TOKENS, key.limits.tokens_per_minute)):
            item = _item(limit)
            if item is not None:
                remaining = max(0, self._limiter.get_window_stats(item, name, key.key_id).remaining)
                fields.append((b"x-ratelimit-limit-" + name.encode(), b"%d" % item.amount))
                fields.append((b"x-ratelimit-remaining-" + name.encode(), b"%d" % remaining))
        return fields

    def _wait_s(self, item: RateLimitItem, name: str, key: RoutedKey) -> float:
        return self._windows.wait_s(item.key_for(name, key.key_id), item.amount, item.get_expiry())


@lru_cache(maxsize=1024)
def _item(limit: int | None) -> RateLimitItem | None:
    return None if limit is None else RateLimitItemPerMinute(limit)
