"""Cron expressions in a time zone: read, checked, and turned into moments."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from itertools import chain, islice, pairwise, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from quantry_core.errors import BadCron, FieldProblem, InvalidInput
from quantry_core.firing import MAX_RUNS_PER_PASS, DueTimes

MAX_COUNTED = 1000
"""Missed due times are counted up to here; a schedule of every second that was paused for a year has 31 million."""

NUM_FIELDS_WITH_SECONDS = 6
HORIZON_YEARS = 50
"""A cron expression that does not fire within so many years never does: the calendar repeats within 40."""

_FIRST_DAY = datetime(2000, 1, 1)
_PARSE_ERRORS = (CronSimError, AssertionError, TypeError, ValueError)
"""What cronsim 2.8 raises for expressions it cannot read; the last three for odd ones such as MON#2/2."""


@dataclass(frozen=True)
class Cron:
    """A cron expression in a time zone, both known to be good. Made by ``parse_cron``.

    Daylight saving is treated as Debian's cron does. Where minute and hour are both fixed, a run belongs to a local time: one that
    the clock skips is made up for at the first moment after, and one that comes twice fires the first time only. Where one
    of them begins with a star, a run belongs to an interval: it fires at every matching moment that really comes.
    """

    text: str
    time_zone: str

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yields the due times after ``moment`` in UTC, each later than the one before; ends where none follow within HORIZON_YEARS."""
        zone = ZoneInfo(self.time_zone)
        due_times = self._fixed(zone, moment) if self._is_fixed else self._recurring(zone, moment)
        latest = moment
        for due_at in due_times:
            # Several skipped local times come together at one moment, and the second pass of a local time lies before it.
            if due_at > latest:
                latest = due_at
                yield due_at

    def next_after(self, moment: datetime) -> datetime | None:
        """Returns the first due time after ``moment`` in UTC, None if there is none."""
        return next(self.after(moment), None)

    def first(self, num: int, moment: datetime) -> list[datetime]:
        """Returns the first ``num`` due times after ``moment`` in UTC, fewer if there are no more."""
        return list(islice(self.after(moment), num))

    def last_before(self, moment: datetime, due_at: datetime) -> datetime:
        """Returns the last due time before ``moment``, from ``due_at`` on, which must be one that is."""
        latest, end = due_at, moment
        while end - latest >= timedelta(seconds=1):  # no two due times lie closer
            middle = latest + (end - latest) / 2
            following = self.next_after(middle)
            if following is not None and following < moment:
                latest = following
            else:
                end = middle
        return latest

    def in_zone(self, moment: datetime) -> datetime:
        """Returns the same moment in the time zone of the schedule."""
        return moment.astimezone(ZoneInfo(self.time_zone))

    def shortest_gap_s(self, moment: datetime, num: int) -> float | None:
        """Returns the seconds between the closest two of the first ``num`` due times after ``moment``; None if there are not two."""
        due_times = self.first(num, moment)
        return min(((later - earlier).total_seconds() for earlier, later in pairwise(due_times)), default=None)

    @property
    def _is_fixed(self) -> bool:
        parts = self.text.split()
        minute, hour = parts[-5:-3]
        return not minute.startswith("*") and not hour.startswith("*")

    def _fixed(self, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
        for local in CronSim(self.text, _local(moment.astimezone(zone))):
            while not _exists(local, zone):
                local += timedelta(minutes=1)  # noqa: PLW2901 - moved to where the clock goes on
            yield local.replace(tzinfo=zone).astimezone(UTC)

    def _recurring(self, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
        """Under each offset from UTC that the zone has, the expression is a plain one; a moment counts under the offset that holds then."""
        heap: list[tuple[datetime, timedelta, CronSim]] = []
        for offset in _offsets(zone, moment.year):
            due_times = CronSim(self.text, _local(moment.astimezone(UTC)) + offset)
            _push_next(heap, offset, due_times)
        while heap:
            due_at, offset, due_times = heapq.heappop(heap)
            if due_at.astimezone(zone).utcoffset() == offset:
                yield due_at
            _push_next(heap, offset, due_times)


def parse_cron(text: str, time_zone: str, *, now: datetime) -> Cron:
    """Returns the schedule of an expression; raises BadCron if it cannot be read or never fires, InvalidInput for an unknown time zone."""
    cron = Cron(_checked_text(text), check_time_zone(time_zone))
    if cron.next_after(now) is None:
        raise _never_fires(text)
    return cron


def due_times(cron: Cron, first: datetime, now: datetime, grace: timedelta) -> DueTimes:
    """Returns what is due at ``now`` from the due time ``first`` on; what is older than ``grace`` is late.

    Of many late ones the first MAX_COUNTED and the last are told, of those on time the first MAX_RUNS_PER_PASS.
    """
    late_before = now - grace
    late: list[datetime] = []
    on_time: list[datetime] = []
    is_more = False
    for due_at in chain([first], cron.after(first)):
        if due_at > now or len(on_time) == MAX_RUNS_PER_PASS:
            break
        if due_at >= late_before:
            on_time.append(due_at)
        elif len(late) < MAX_COUNTED:
            late.append(due_at)
        else:
            last = cron.last_before(late_before, due_at)
            is_more = last > due_at
            late.append(last)
            on_time = list(islice(takewhile(lambda moment: moment <= now, cron.after(last)), MAX_RUNS_PER_PASS))
            break
    return DueTimes(late=late, on_time=on_time, is_more=is_more)


def check_time_zone(name: str) -> str:
    """Returns ``name`` unchanged if it is an IANA time zone; raises InvalidInput naming those that are close."""
    if name in _zone_names():
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
        else:
            return name
    by_case = [known for known in _zone_names() if known.casefold() == name.casefold()]
    near = by_case or get_close_matches(name, _zone_names(), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "use an IANA name such as Europe/Berlin, or UTC"
    sentence = f"there is no time zone {name!r}; {hint}"
    raise InvalidInput(sentence, errors=[FieldProblem(field="time_zone", message=sentence)])


def _checked_text(text: str) -> str:
    parts = text.split()
    if len(parts) not in (NUM_FIELDS_WITH_SECONDS - 1, NUM_FIELDS_WITH_SECONDS):
        raise bad_cron(
            f"{text!r} has {len(parts)} fields; a cron expression has five (minute hour day month weekday), or six with seconds first"
        )
    try:
        CronSim(" ".join(parts), _FIRST_DAY)
    except _PARSE_ERRORS as error:
        if _asks_for_missing_day(parts, error):
            raise _never_fires(text) from error
        reason = str(error).removeprefix("Bad ") if isinstance(error, CronSimError) else "a combination of signs"
        raise bad_cron(f"{text!r} cannot be read as a cron expression: look at its {reason} field") from error
    return " ".join(parts)


def _asks_for_missing_day(parts: list[str], error: Exception) -> bool:
    """Tells whether all that cronsim minds is a day that none of the months has, such as the 30th of February."""
    if str(error) != "Bad day-of-month":
        return False
    try:
        CronSim(" ".join([*parts[:-2], "*", parts[-1]]), _FIRST_DAY)
    except _PARSE_ERRORS:
        return False
    return True


def _never_fires(text: str) -> BadCron:
    return bad_cron(f"{text!r} never fires: no day of any year fits it")


def bad_cron(sentence: str) -> BadCron:
    """Returns the refusal of a cron expression."""
    return BadCron(sentence, errors=[FieldProblem(field="cron", message=sentence)])


def _local(moment: datetime) -> datetime:
    """Returns what the clock on the wall shows, as cronsim wants it: without a zone, so that it leaves daylight saving to us."""
    return moment.replace(tzinfo=None)


def _exists(local: datetime, zone: ZoneInfo) -> bool:
    """Tells whether the clocks of the zone ever show this time; those between the ends of a jump forward never do."""
    return local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local


@lru_cache(maxsize=1024)
def _offsets(zone: ZoneInfo, year: int) -> tuple[timedelta, ...]:
    """Returns the offsets from UTC that a zone has from a year on, looked at week by week: none lasts for less."""
    first = datetime(year, 1, 1, tzinfo=UTC) - timedelta(weeks=1)
    moments = (first + timedelta(weeks=week) for week in range((HORIZON_YEARS + 1) * 53))
    return tuple(sorted({offset for moment in moments if (offset := moment.astimezone(zone).utcoffset()) is not None}))


def _push_next(heap: list[tuple[datetime, timedelta, CronSim]], offset: timedelta, due_times: CronSim) -> None:
    local = next(due_times, None)
    if local is not None:
        heapq.heappush(heap, (local.replace(tzinfo=UTC) - offset, offset, due_times))


@cache
def _zone_names() -> frozenset[str]:
    # Two files of the time zone database that name no place; the first is whatever this machine is set to.
    return frozenset(available_timezones()) - {"localtime", "Factory"}
