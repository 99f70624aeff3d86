"""Windows that wait for the api."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from quantry_core.histograms import Histogram
from quantry_core.traffic import Tally, TrafficWindow
from quantry_gateway.backlog import Backlog

BEGAN_AT = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


def window(release_id: str, second: int, num: int = 1) -> TrafficWindow:
    return TrafficWindow(
        release_id=release_id,
        began_at=BEGAN_AT + timedelta(seconds=second),
        ended_at=BEGAN_AT + timedelta(seconds=second + 1),
        tally=Tally(num_answered=num, e2e_s=Histogram(counts={second % 7: num})),
    )


def emptied(backlog: Backlog) -> list[TrafficWindow]:
    taken = []
    while len(backlog):
        part = backlog.take(200)
        assert part
        releases = [one.release_id for one in part]
        assert len(set(releases)) == len(releases), "a report tells of each release once"
        taken += part
    return taken


def test_windows_come_out_in_order_each_release_once_at_a_time() -> None:
    backlog = Backlog(max_windows=10)
    for second in range(3):
        backlog.add([window("rel_1", second), window("rel_2", second)])
    assert [one.release_id for one in backlog.take(200)] == ["rel_1", "rel_2"]
    assert [one.release_id for one in backlog.take(1)] == ["rel_1"]
    assert [(one.release_id, one.began_at.second) for one in emptied(backlog)] == [("rel_2", 1), ("rel_1", 2), ("rel_2", 2)]


def test_the_oldest_are_merged_and_the_newest_keep_their_seconds() -> None:
    backlog = Backlog(max_windows=3)
    for second in range(6):
        backlog.add([window("rel_1", second)])
    old, *new = emptied(backlog)
    assert (old.began_at, old.ended_at) == (BEGAN_AT, BEGAN_AT + timedelta(seconds=4))
    assert old.tally.num_answered == 4
    assert [one.began_at.second for one in new] == [4, 5]


def test_one_window_of_each_release_stays_whatever_the_bound() -> None:
    backlog = Backlog(max_windows=2)
    for second in range(3):
        backlog.add([window(f"rel_{number}", second) for number in range(5)])
    assert sorted(one.release_id for one in emptied(backlog)) == [f"rel_{number}" for number in range(5)]


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["rel_1", "rel_2", "rel_3"]), st.integers(0, 5)), max_size=3, unique_by=lambda one: one[0])
    ),
    st.integers(1, 8),
)
def test_no_count_is_lost(cuts: list[list[tuple[str, int]]], max_windows: int) -> None:
    backlog = Backlog(max_windows=max_windows)
    told: dict[str, Tally] = {}
    for second, cut in enumerate(cuts):
        windows = [window(release_id, second, num) for release_id, num in cut]
        for one in windows:
            told[one.release_id] = told.get(one.release_id, Tally()).merged(one.tally)
        backlog.add(windows)
        assert len(backlog) <= max(max_windows, len(told))
    heard: dict[str, Tally] = {}
    last_ended_at: dict[str, datetime] = {}
    for one in emptied(backlog):
        assert one.began_at >= last_ended_at.get(one.release_id, BEGAN_AT)
        last_ended_at[one.release_id] = one.ended_at
        heard[one.release_id] = heard.get(one.release_id, Tally()).merged(one.tally)
    assert heard == told
