"""When a message that was not taken is sent again, and when nobody tries any more. Pure decisions."""

from __future__ import annotations

from typing import Final

FIRST_PAUSE_S: Final = 5.0
GROWTH: Final = 3.0
LONGEST_PAUSE_S: Final = 4 * 3600.0
JITTER: Final = 0.2
"""Share of a pause that it is longer or shorter by: what failed together does not come back together."""

GIVE_UP_AFTER_S: Final = 72 * 3600.0
"""Seconds after which a message is not sent again, counted from when it was written or asked for again."""

GONE: Final = 410
"""The receiver says that it wants no more: its webhook is disabled at once."""

_ASKING_FOR_TIME: Final = frozenset({429, 503})
"""Answers whose Retry-After is heard."""


def is_taken(status: int) -> bool:
    """Tells whether an answer says that the message arrived. A redirect does not: it is not followed."""
    return 200 <= status < 300


def pause_s(num_attempts: int, draw: float) -> float:
    """Returns seconds until the next attempt after ``num_attempts`` have failed: 5 s, 15 s, 45 s, ... up to 4 h, each within a fifth.

    ``draw`` is a random number from 0 up to 1.
    """
    # The exponent is bounded because a float overflows in the end.
    pause = min(FIRST_PAUSE_S * GROWTH ** min(max(num_attempts, 1) - 1, 64), LONGEST_PAUSE_S)
    return pause * (1 + JITTER * (2 * draw - 1))


def asked_pause_s(status: int, retry_after: str | None) -> float:
    """Returns the seconds that a receiver asks to be left alone, at most LONGEST_PAUSE_S; 0 where it does not ask."""
    if status not in _ASKING_FOR_TIME or retry_after is None or not retry_after.isdecimal() or not retry_after.isascii():
        return 0.0
    return min(float(retry_after[:12]), LONGEST_PAUSE_S)
