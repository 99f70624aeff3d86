"""The store's time: a signature with another is refused, however right the key is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MIN_SKEW_S = 60.0
"""A refused request whose time was closer than this to the store's was refused for something else: S3 allows 15 minutes."""

AMZ_DATE_FORMAT = "%Y%m%dT%H%M%SZ"

_log = logging.getLogger(__name__)


class StoreClock:
    """This machine's clock, and by how much one store's is ahead of it: 0 s until a refused request says otherwise."""

    def __init__(self, now_unix_s: Callable[[], float]) -> None:
        self._now_unix_s = now_unix_s
        self.ahead_s = 0.0

    def now(self) -> datetime:
        """Returns the store's time, in UTC, as far as it is known."""
        return self._here() + timedelta(seconds=self.ahead_s)

    def set_by(self, store_time: datetime) -> None:
        """Takes over the store's time of just now."""
        self.ahead_s = (store_time - self._here()).total_seconds()
        _log.warning(
            "this machine's clock is %s the object store's: requests are signed with the store's time; set the clock right",
            ahead_or_behind(-self.ahead_s),
        )

    def _here(self) -> datetime:
        return datetime.fromtimestamp(self._now_unix_s(), UTC)


def signed_ahead_s(signed: str | None, store_time: datetime | None, elapsed_s: float) -> float:
    """Returns by how many seconds a request's time was ahead of the store's; 0 where one of the two is not told.

    ``signed`` is the request's ``x-amz-date``, ``store_time`` that of the answer, ``elapsed_s`` what lay between them.
    """
    if signed is None or store_time is None:
        return 0.0
    signed_at = datetime.strptime(signed, AMZ_DATE_FORMAT).replace(tzinfo=UTC)
    return (signed_at - store_time).total_seconds() + elapsed_s


def http_date(text: str | None) -> datetime | None:
    """Returns the time of a ``Date`` header, in UTC; None if there is none or it is not one."""
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def ahead_or_behind(seconds: float) -> str:
    """Returns a difference in words: ``7200 s ahead of``."""
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"
