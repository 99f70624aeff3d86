"""Cron expressions: what is read, what is refused, and daylight saving against dates written out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quantry_core.errors import BadCron, InvalidInput
from quantry_core.firing import MAX_RUNS_PER_PASS
from quantry_store.cron import MAX_COUNTED, Cron, check_time_zone, due_times, parse_cron

NOW = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)
BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"
GRACE = timedelta(seconds=60)


def utc(text: str) -> datetime:
    """Returns a moment such as 2026-03-29 01:00."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(text: str, zone: str, after: str, until: str) -> list[str]:
    """Returns the due times between two moments in UTC, without the year."""
    end = utc(until)
    found = []
    for due_at in parse_cron(text, zone, now=utc(after)).after(utc(after)):
        if due_at > end:
            break
        found.append(due_at.strftime("%m-%d %H:%M" + (":%S" if due_at.second else "")))
    return found


# Clocks in Berlin: 2026-03-29 02:00 -> 03:00 (01:00 UTC), 2026-10-25 03:00 -> 02:00 (01:00 UTC).
# Clocks in New York: 2026-03-08 02:00 -> 03:00 (07:00 UTC), 2026-11-01 02:00 -> 01:00 (06:00 UTC).
DST = [
    # A time that the clock skips: once, when the clock goes on.
    ("30 2 * * *", BERLIN, "2026-03-27 12:00", "2026-03-30 12:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
    ("30 2 * * *", NEW_YORK, "2026-03-06 12:00", "2026-03-09 12:00", ["03-07 07:30", "03-08 07:00", "03-09 06:30"]),
    # Six fields are no different: the second is kept.
    ("15 30 2 * * *", BERLIN, "2026-03-28 12:00", "2026-03-30 12:00", ["03-29 01:00:15", "03-30 00:30:15"]),
    # Two that are skipped, and one that is not, at the same moment: once.
    ("0 2,3 * * *", BERLIN, "2026-03-29 00:00", "2026-03-29 12:00", ["03-29 01:00"]),
    ("15,45 2 * * *", NEW_YORK, "2026-03-08 00:00", "2026-03-08 12:00", ["03-08 07:00"]),
    # A time that comes twice: once, the first time.
    ("30 2 * * *", BERLIN, "2026-10-24 12:00", "2026-10-26 12:00", ["10-25 00:30", "10-26 01:30"]),
    ("30 1 * * *", NEW_YORK, "2026-10-31 12:00", "2026-11-02 12:00", ["11-01 05:30", "11-02 06:30"]),
    ("0 30 1 * * *", NEW_YORK, "2026-10-31 12:00", "2026-11-02 12:00", ["11-01 05:30", "11-02 06:30"]),
    # Asked in the middle of the second pass: not again, and nothing that lies before.
    ("30 2 * * *", BERLIN, "2026-10-25 01:10", "2026-10-26 12:00", ["10-26 01:30"]),
    # Times before and after the change are not moved.
    ("0 12 * * *", BERLIN, "2026-03-28 00:00", "2026-03-30 00:00", ["03-28 11:00", "03-29 10:00"]),
    # Intervals go by real time: every hour that really comes, both of those that have the same name.
    ("0 * * * *", BERLIN, "2026-03-28 23:30", "2026-03-29 03:00", ["03-29 00:00", "03-29 01:00", "03-29 02:00", "03-29 03:00"]),
    ("0 * * * *", BERLIN, "2026-10-24 23:30", "2026-10-25 03:00", ["10-25 00:00", "10-25 01:00", "10-25 02:00", "10-25 03:00"]),
    ("*/30 * * * *", NEW_YORK, "2026-11-01 05:00", "2026-11-01 06:30", ["11-01 05:30", "11-01 06:00", "11-01 06:30"]),
    # Every other hour of the local clock: 00, 02 (the first and the second one), 04.
    ("0 */2 * * *", BERLIN, "2026-10-24 21:00", "2026-10-25 03:30", ["10-24 22:00", "10-25 00:00", "10-25 01:00", "10-25 03:00"]),
    # Midnight that the clock skips, in Cairo on 2026-04-24 (22:00 UTC the day before).
    ("0 0 * * *", "Africa/Cairo", "2026-04-22 12:00", "2026-04-24 23:00", ["04-22 22:00", "04-23 22:00", "04-24 21:00"]),
]


@pytest.mark.parametrize(("text", "zone", "after", "until", "expected"), DST)
def test_daylight_saving(text: str, zone: str, after: str, until: str, expected: list[str]) -> None:
    assert fires(text, zone, after, until) == expected


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("*/15 * * * *", "2026-11-22 07:00", ["2026-11-22 07:15", "2026-11-22 07:30"]),
        ("0 9 * * MON-FRI", "2026-11-22 07:00", ["2026-11-23 09:00", "2026-11-24 09:00"]),
        ("0 0 L * *", "2026-11-22 07:00", ["2026-11-30 00:00", "2026-12-31 00:00"]),
        ("0 0 29 2 *", "2026-11-22 07:00", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        # The first of a month, or a Monday: both fields are fixed, so one of them is enough, as in every cron.
        ("0 0 1 * MON", "2026-11-22 07:00", ["2026-11-23 00:00", "2026-11-30 00:00"]),
        ("*/20 * * * * *", "2026-11-22 07:00", ["2026-11-22 07:00:20", "2026-11-22 07:00:40"]),
    ],
)
def test_expressions(text: str, after: str, expected: list[str]) -> None:
    assert parse_cron(text, "UTC", now=NOW).first(2, utc(after)) == [utc(moment) for moment in expected]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 0 30 FEB *", "never fires"),
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("@daily", "has 1 fields"),
        ("60 * * * *", "minute field"),
        ("* 24 * * *", "hour field"),
        ("0 0 32 2 *", "day-of-month field"),
        ("0 0 30 13 *", "month field"),
        ("0 0 * * 8", "day-of-week field"),
        ("60 * * * * *", "second field"),
        ("*/0 * * * *", "minute field"),
        ("5-1 * * * *", "minute field"),
        ("0 0 * * MON#1/2", "cannot be read"),
        ("é * * * *", "minute field"),
    ],
)
def test_what_is_no_schedule(text: str, words: str) -> None:
    with pytest.raises(BadCron, match=words) as refused:
        parse_cron(text, "UTC", now=NOW)
    assert [problem.field for problem in refused.value.errors] == ["cron"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("europe/berlin", "did you mean Europe/Berlin"),
        ("utc", "did you mean UTC"),
        ("Europe", "there is no time zone"),
        ("../../etc/passwd", "there is no time zone"),
        ("/usr/share/zoneinfo/UTC", "there is no time zone"),
        ("localtime", "there is no time zone"),
        ("\x00", "there is no time zone"),
    ],
)
def test_unknown_time_zones(name: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        check_time_zone(name)
    assert [problem.field for problem in refused.value.errors] == ["time_zone"]


@given(text=st.text(alphabet="0123456789*/,-L#W MONé", max_size=30))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        cron = parse_cron(text, NEW_YORK, now=NOW)
    except BadCron:
        return
    first, second = cron.first(2, NOW)
    assert NOW < first < second


FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/7", "*", "15,45", "5-20"]),
    st.sampled_from(["0", "1", "2", "3", "*/2", "*", "1-3", "0-23/5"]),
    st.sampled_from(["*", "*/2", "1,15", "L"]),
    st.sampled_from(["*", "3,10,11", "4"]),
    st.sampled_from(["*", "SUN", "1-5"]),
).map(" ".join)
ZONES = st.sampled_from([BERLIN, NEW_YORK, "Africa/Cairo", "America/Sao_Paulo", "Asia/Kolkata", "UTC"])
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2029, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC, microsecond=0))


@given(text=FIELDS, zone=ZONES, moment=MOMENTS)
@example(text="*/7 0 L * *", zone="Africa/Cairo", moment=datetime(2027, 4, 29, tzinfo=UTC))
@settings(max_examples=300, deadline=None)
def test_five_fields_are_as_cronsim_has_them(text: str, zone: str, moment: datetime) -> None:
    """cronsim's own treatment of daylight saving, but that a moment is never told twice, and nothing that lies before.

    Of an interval cronsim tells a local midnight that the clocks skip (Cairo's, in spring); nothing matches then, so it is left out.
    """
    ours = Cron(text, zone).first(5, moment)
    theirs: list[datetime] = []
    is_interval = any(field.startswith("*") for field in text.split()[:2])
    for due_at in CronSim(text, moment.astimezone(ZoneInfo(zone))):
        if is_interval and due_at.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != due_at.replace(tzinfo=None):
            continue
        if due_at.astimezone(UTC) > (theirs[-1] if theirs else moment):
            theirs.append(due_at.astimezone(UTC))
        if len(theirs) == 5:
            break
    assert ours == theirs


@given(
    minutes=st.sampled_from(["*", "*/10", "*/7"]),
    hours=st.sampled_from(["*", "1", "1-2", "*/2"]),
    zone=st.sampled_from([BERLIN, NEW_YORK, "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Casablanca"]),
    moment=MOMENTS,
)
@settings(max_examples=100, deadline=None)
def test_intervals_are_every_minute_that_fits(minutes: str, hours: str, zone: str, moment: datetime) -> None:
    """Against the plainest way there is: looking at each minute of two days, as the clock on the wall shows it."""
    start = moment.replace(second=0)
    step = int(minutes.removeprefix("*/")) if "/" in minutes else 1
    fitting = {"*": set(range(24)), "1": {1}, "1-2": {1, 2}, "*/2": set(range(0, 24, 2))}[hours]
    expected = []
    for number in range(1, 2 * 24 * 60):
        minute = start + timedelta(minutes=number)
        local = minute.astimezone(ZoneInfo(zone))
        if local.minute % step == 0 and local.hour in fitting:
            expected.append(minute)
    found = Cron(f"{minutes} {hours} * * *", zone).first(len(expected), start)
    assert found == expected


@given(text=FIELDS, zone=ZONES, moment=MOMENTS, hours=st.integers(1, 24 * 400))
@settings(max_examples=50, deadline=None)
def test_the_last_before(text: str, zone: str, moment: datetime, hours: int) -> None:
    cron = Cron(text, zone)
    first = cron.next_after(moment)
    assert first is not None
    end = first + timedelta(hours=hours)
    last = cron.last_before(end, first)
    assert first <= last < end
    following = cron.next_after(last)
    assert following is not None and following >= end


def test_few_due_times_are_all_told() -> None:
    hourly = parse_cron("0 * * * *", "UTC", now=NOW)
    due = due_times(hourly, utc("2026-11-22 04:00"), utc("2026-11-22 07:00:30"), GRACE)
    assert due.late == [utc("2026-11-22 04:00"), utc("2026-11-22 05:00"), utc("2026-11-22 06:00")]
    assert due.on_time == [utc("2026-11-22 07:00")]
    assert not due.is_more


def test_the_grace_is_counted_to_the_second() -> None:
    hourly = parse_cron("0 * * * *", "UTC", now=NOW)
    at = utc("2026-11-22 07:00")
    assert due_times(hourly, at, at + GRACE, GRACE).on_time == [at]
    assert due_times(hourly, at, at + GRACE + timedelta(seconds=1), GRACE).late == [at]


def test_a_year_of_seconds_is_not_counted_out() -> None:
    each_second = parse_cron("* * * * * *", BERLIN, now=NOW)
    due = due_times(each_second, NOW - timedelta(days=365), NOW, GRACE)
    assert len(due.late) == MAX_COUNTED + 1
    assert due.is_more
    assert due.late[-1] == NOW - GRACE - timedelta(seconds=1)
    assert due.on_time[0] == NOW - GRACE
    assert due.on_time[-1] == NOW
    assert len(due.on_time) == 61


def test_one_pass_takes_so_many_and_no_more() -> None:
    each_second = parse_cron("* * * * * *", "UTC", now=NOW)
    due = due_times(each_second, NOW - timedelta(seconds=150), NOW, timedelta(seconds=200))
    assert len(due.on_time) == MAX_RUNS_PER_PASS
    assert due.on_time[0] == NOW - timedelta(seconds=150)


@pytest.mark.parametrize(("text", "gap_s"), [("* * * * * *", 1), ("*/15 * * * *", 900), ("0 3,4 * * *", 3600), ("0 0 1 * *", 28 * 86400)])
def test_the_shortest_gap(text: str, gap_s: float) -> None:
    assert parse_cron(text, "UTC", now=NOW).shortest_gap_s(NOW, 50) == gap_s
