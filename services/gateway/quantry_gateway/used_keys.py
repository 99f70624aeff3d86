"""Which keys asked the data plane, told now and then: a key that only calls models is no key that nobody uses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from quantry_core.traffic import MAX_REPORT_KEYS
from quantry_gateway.outcomes import Outcome

TELL_AGAIN_S = 240.0
"""A key is told again after so long at the earliest: it is noted to some minutes anyway."""
MAX_KEYS = 100_000


class UsedKeys:
    """The keys of requests that ended, each told once in TELL_AGAIN_S seconds. What a lost report told of is told by the next use."""

    def __init__(self, *, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._told_s: OrderedDict[str, float] = OrderedDict()
        self._fresh: dict[str, None] = {}

    def tell(self, outcome: Outcome) -> None:
        """Notes the key of a request."""
        now_s = self._clock_s()
        told_s = self._told_s.get(outcome.key_id)
        if told_s is not None and now_s - told_s < TELL_AGAIN_S:
            return
        self._told_s[outcome.key_id] = now_s
        self._told_s.move_to_end(outcome.key_id)
        if len(self._told_s) > MAX_KEYS:
            self._told_s.popitem(last=False)
        self._fresh[outcome.key_id] = None

    def take(self) -> list[str]:
        """Returns the keys that are to be told, as many as a report has room for, and forgets them."""
        taken = list(self._fresh)[:MAX_REPORT_KEYS]
        for key_id in taken:
            del self._fresh[key_id]
        return taken
