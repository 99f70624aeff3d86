"""How often somebody's sign-ins failed of late. Pure, but for the clock.

The API counts wrong keys by the address they come from, which for all people here is the dashboard's: without a count of its own, one who
tries keys would lock out everybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

MAX_FAILURES = 20
"""Of one address in WINDOW_S; well below what the API takes of one."""
WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
"""Beyond, the address that failed first is forgotten."""


class FailedSignIns:
    """Counts failures by address, in windows that begin with the first one."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._failures: dict[str, tuple[float, int]] = {}

    def are_too_many(self, address: str) -> bool:
        """Tells whether an address has to wait."""
        began_s, count = self._failures.get(_counted_by(address), (0.0, 0))
        return count >= MAX_FAILURES and self._clock_s() - began_s < WINDOW_S

    def note(self, address: str) -> None:
        """Counts a failure."""
        by, now_s = _counted_by(address), self._clock_s()
        began_s, count = self._failures.pop(by, (now_s, 0))
        self._failures[by] = (now_s, 1) if now_s - began_s >= WINDOW_S else (began_s, count + 1)
        while len(self._failures) > MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]


def _counted_by(address: str) -> str:
    """Returns what an address is counted by: of IPv6 the network, of which one host has all addresses."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return known.exploded[:19] if isinstance(known, IPv6Address) and known.ipv4_mapped is None else address
