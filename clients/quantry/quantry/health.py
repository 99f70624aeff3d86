"""What the answer of a server says of its clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

DATE_STEP_S = 1.0
"""A Date header tells whole seconds."""


@dataclass(frozen=True)
class Health:
    """A server that is well."""

    round_trip_s: float
    clock_ahead_s: float | None
    """By how much this machine's clock is ahead of the server's; 0 where the difference is too small to be told, None without a Date."""


def health_of(date: str | None, began_at: datetime, ended_at: datetime) -> Health:
    """Returns what an answer with this Date header says, whose request began and ended at these moments of this machine's clock."""
    round_trip_s = (ended_at - began_at).total_seconds()
    try:
        told = None if date is None else parsedate_to_datetime(date)
    except ValueError:
        told = None
    if told is None or told.tzinfo is None:
        return Health(round_trip_s, None)
    # The answer was written at some moment between both, within the second that it tells.
    latest_s = (ended_at - told).total_seconds()
    earliest_s = (began_at - told).total_seconds() - DATE_STEP_S
    if earliest_s <= 0 <= latest_s:
        return Health(round_trip_s, 0.0)
    return Health(round_trip_s, earliest_s if earliest_s > 0 else latest_s)
