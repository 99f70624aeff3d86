"""What is kept of traffic, and whose of which time a rollout is judged by."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.rollout_records import NOW, ago, record, release, rollout
from quantry_core.histograms import Histogram
from quantry_core.rollouts import Rollout, RolloutState
from quantry_core.strategies import AbStrategy, BlueGreenStrategy, CanaryStrategy, ImmediateStrategy, ShadowStrategy, Strategy
from quantry_core.traffic import PairTally, Tally, TrafficWindow
from quantry_deploy.evidence import MAX_SPANS, Timeline, case_of

OLD, NEW = release("rel_old"), release("rel_new")


def window(at_s: float, num: int = 1, release_id: str = "rel_new", **changes: Any) -> TrafficWindow:
    began_at = NOW + timedelta(seconds=at_s)
    tally = Tally(num_answered=num, e2e_s=Histogram(counts={3: num}), pairs=PairTally(num_pairs=num), **changes)
    return TrafficWindow(release_id=release_id, began_at=began_at, ended_at=began_at + timedelta(seconds=1), tally=tally)


def test_windows_are_kept_one_by_one_as_long_as_they_are_few() -> None:
    line = Timeline("rel_new", NOW)
    assert line.add([window(0.2), window(1.2), window(5.0)], 7)
    assert [one.began_at for one in line.traffic().windows] == [NOW + timedelta(seconds=s) for s in (0.2, 1.2, 5.0)]
    assert line.last_id == 7


def test_windows_of_one_second_are_one() -> None:
    line = Timeline("rel_new", NOW)
    line.add([window(0.1, 2), window(0.9, 3)], 2)
    (merged,) = line.traffic().windows
    assert (merged.tally.num_answered, merged.tally.e2e_s.num, merged.tally.pairs.num_pairs) == (5, 5, 5)
    assert (merged.began_at, merged.ended_at) == (NOW + timedelta(seconds=0.1), NOW + timedelta(seconds=1.9))


def test_what_is_of_another_time_or_release_does_not_count() -> None:
    line = Timeline("rel_new", NOW, NOW + timedelta(seconds=10))
    assert not line.add([window(-0.1), window(10), window(3, release_id="rel_old")], 3)
    assert line.traffic().windows == []
    assert line.last_id == 3
    assert line.add([window(9.9)], 4)


def test_a_late_window_falls_in_its_place() -> None:
    line = Timeline("rel_new", NOW)
    line.add([window(50), window(20)], 2)
    assert [one.began_at for one in line.traffic().windows] == [NOW + timedelta(seconds=s) for s in (20, 50)]


def test_an_experiment_of_a_month_is_no_more_than_so_many_windows() -> None:
    line = Timeline("rel_new", NOW)
    for day in range(30):
        line.add([window(day * 86400 + hour * 3600, num=2) for hour in range(24)], day)
    assert len(line.traffic().windows) <= MAX_SPANS
    assert line.traffic().total().num_answered == 30 * 24 * 2


@given(st.lists(st.lists(st.tuples(st.floats(0, 3e6), st.integers(1, 9)), max_size=8), max_size=20))
def test_nothing_is_lost_whatever_the_order(parts: list[list[tuple[float, int]]]) -> None:
    line = Timeline("rel_new", NOW)
    for index, part in enumerate(parts):
        line.add([window(at_s, num) for at_s, num in part], index)
    traffic = line.traffic()
    assert traffic.total().num_answered == sum(num for part in parts for _, num in part)
    assert len(traffic.windows) <= MAX_SPANS
    assert [one.began_at for one in traffic.windows] == sorted(one.began_at for one in traffic.windows)


def staged(strategy: Strategy, state: RolloutState = RolloutState.PROGRESSING, **changes: Any) -> Rollout:
    values: dict[str, Any] = {
        "strategy": strategy,
        "from_release_id": "rel_old",
        "staged_at": ago(20),
        "exposed_at": ago(60),
        "created_at": ago(90),
    }
    return rollout(state, **{**values, **changes})


@pytest.mark.parametrize("strategy", [CanaryStrategy(), AbStrategy(), ShadowStrategy()])
@pytest.mark.parametrize("state", [RolloutState.PROGRESSING, RolloutState.PAUSED])
def test_a_stage_stands_on_what_was_measured_since_it_began(strategy: Strategy, state: RolloutState) -> None:
    case = case_of(record(current=OLD, target=NEW, active=staged(strategy, state)))
    assert case is not None
    assert (case.candidate, case.stable_id) == (NEW, "rel_old")
    assert (case.candidate_since, case.stable_since, case.stable_until) == (ago(20), ago(20), None)


def test_stages_and_watch_are_told_apart_and_a_stage_that_begins_again_is_not() -> None:
    def key(**changes: Any) -> tuple[str, str]:
        case = case_of(record(current=OLD, target=NEW, active=staged(CanaryStrategy(), **changes)))
        assert case is not None
        return case.key

    assert key() == key(staged_at=ago(1))
    assert key() != key(stage=1)


@pytest.mark.parametrize(
    "active",
    [
        staged(CanaryStrategy(), RolloutState.PENDING),
        staged(CanaryStrategy(), staged_at=None),
        staged(CanaryStrategy(), from_release_id=None),
        staged(ImmediateStrategy()),
        staged(BlueGreenStrategy(pause=True)),
    ],
)
def test_what_is_not_compared_is_not_judged(active: Rollout) -> None:
    assert case_of(record(current=OLD, target=NEW, active=active)) is None


def test_a_stopped_deployment_is_not_judged() -> None:
    assert case_of(record(current=OLD, target=NEW, active=staged(CanaryStrategy()), is_stopped=True)) is None


def watched(**changes: Any) -> Rollout:
    strategy = changes.pop("strategy", CanaryStrategy())
    return staged(strategy, RolloutState.PROMOTED, **{"finished_at": ago(5), "watch_s": 60, "watch_until": NOW, **changes})


def test_after_the_promotion_the_new_release_is_held_against_what_the_one_before_showed_until_then() -> None:
    case = case_of(record(current=NEW, target=OLD, watched=watched()))
    assert case is not None
    assert (case.candidate, case.stable_id, case.part) == (NEW, "rel_old", "watch")
    assert (case.candidate_since, case.stable_since, case.stable_until) == (ago(5), ago(90), ago(5))


def test_a_step_at_100_percent_is_held_against_what_the_stable_release_showed_before() -> None:
    case = case_of(record(current=OLD, target=NEW, active=staged(CanaryStrategy(), stage=2, percent=100)))
    assert case is not None
    assert (case.candidate_since, case.stable_since, case.stable_until) == (ago(20), ago(90), ago(20))


@pytest.mark.parametrize("changes", [{"strategy": ImmediateStrategy()}, {"strategy": ShadowStrategy()}, {"from_release_id": None}])
def test_a_promotion_without_rules_is_watched_but_not_judged(changes: dict[str, Any]) -> None:
    assert case_of(record(current=NEW, target=OLD, watched=watched(**changes))) is None


def test_a_release_that_serves_no_more_is_not_judged() -> None:
    assert case_of(record(current=OLD, target=NEW, watched=watched())) is None
