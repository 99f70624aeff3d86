"""Tallies of traffic: what counts as judged, and that all ways of adding up agree."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factories.traffic import BEGAN_AT, histogram, pair_tally, release_traffic
from quantry_core.histograms import Histogram
from quantry_core.rules import LatencyMetric
from quantry_core.traffic import PairTally, ReleaseTraffic, Tally, TrafficReport, TrafficWindow, total_of

# Whole numbers as sums: floats would differ in the last bit by the order in which they are added.
PAIRS = st.builds(PairTally, **{name: st.integers(0, 9) for name in PairTally.model_fields})
HISTOGRAMS = st.dictionaries(st.integers(-20, 20), st.integers(1, 9), max_size=4).map(lambda counts: Histogram(counts=counts))


def _field(annotation: Any) -> st.SearchStrategy[Any]:
    return {Histogram: HISTOGRAMS, PairTally: PAIRS, int: st.integers(0, 99)}[annotation]


TALLIES = st.builds(Tally, **{name: _field(field.annotation) for name, field in Tally.model_fields.items()})


@given(st.lists(TALLIES, max_size=5))
def test_the_total_is_what_merging_one_by_one_gives(tallies: list[Tally]) -> None:
    merged = reduce(Tally.merged, tallies, Tally())
    assert total_of(tallies) == merged
    assert release_traffic(*tallies).total() == merged


@given(TALLIES, TALLIES)
def test_every_figure_of_both_is_in_the_total(one: Tally, other: Tally) -> None:
    total = one.merged(other)
    for name, field in Tally.model_fields.items():
        mine, theirs, both = (getattr(part, name) for part in (one, other, total))
        if field.annotation is int:
            assert both == mine + theirs
        elif field.annotation is Histogram:
            assert both.num == mine.num + theirs.num
        else:
            assert {figure: getattr(both, figure) for figure in PairTally.model_fields} == {
                figure: getattr(mine, figure) + getattr(theirs, figure) for figure in PairTally.model_fields
            }


def test_without_windows_the_total_is_empty() -> None:
    assert ReleaseTraffic(release_id="rel_1").total() == Tally()


def test_only_answered_and_failed_requests_are_judged() -> None:
    tally = Tally(num_answered=5, num_failed=2, num_refused=90, num_rejected=80, num_given_up=70, num_filtered=1, num_retried=60)
    assert tally.num_judged == 7


def test_each_latency_has_its_histogram() -> None:
    tally = Tally(ttft_s=histogram([1.0]), tpot_s=histogram([2.0]), e2e_s=histogram([3.0]))
    found = {metric: tally.latency(metric).quantile(0.5) for metric in LatencyMetric}
    expected = {LatencyMetric.TTFT: 1.0, LatencyMetric.TPOT: 2.0, LatencyMetric.E2E: 3.0}
    assert found == pytest.approx(expected, rel=0.021)


def test_failed_pairs_are_pairs_of_which_no_sum_knows() -> None:
    pairs = pair_tally([0.5], [0.1], failed=3)
    assert (pairs.num_pairs, pairs.num_failed, pairs.disagreement_sum) == (4, 3, 0.5)


@pytest.mark.parametrize(
    "figures", [{"disagreement_sum": -1.0}, {"divergence_sum": math.nan}, {"num_pairs": -1}, {"disagreement_square_sum": math.nan}]
)
def test_sums_below_zero_and_nan_are_refused(figures: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PairTally(**figures)


@given(TALLIES)
def test_a_report_survives_json(tally: Tally) -> None:
    window = TrafficWindow(release_id="rel_1", began_at=BEGAN_AT, ended_at=BEGAN_AT, tally=tally)
    report = TrafficReport(gateway_id="gw", sequence=1, windows=[window])
    assert TrafficReport.model_validate_json(report.model_dump_json()) == report


def test_a_time_without_its_zone_is_refused() -> None:
    """Beside one that has its zone it could not be compared."""
    window = {"release_id": "rel_1", "began_at": "2026-11-23T00:00:00Z", "ended_at": "2026-11-23T00:00:01", "tally": {}}
    with pytest.raises(ValidationError, match="timezone"):
        TrafficReport.model_validate({"gateway_id": "gw", "sequence": 1, "windows": [window]})
