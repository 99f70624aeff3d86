"""Figures span by span: their intervals hold what they say, and what is shown has bounds."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from factories.traffic import BEGAN_AT, histogram, tally
from quantry_core.histograms import RELATIVE_ERROR
from quantry_core.traffic_spans import LONGEST, MAX_SPANS, begin_of, figures_of, quantile, share, span_s_for


def test_an_hour_at_most_is_shown() -> None:
    assert begin_of(BEGAN_AT, BEGAN_AT + timedelta(minutes=10)) == BEGAN_AT
    assert begin_of(BEGAN_AT, BEGAN_AT + timedelta(days=3)) == BEGAN_AT + timedelta(days=3) - LONGEST


@pytest.mark.parametrize(("seconds", "expected"), [(0, 5), (300, 5), (301, 10), (3600, 60), (7200, 60)])
def test_spans_are_few_and_round(seconds: int, expected: int) -> None:
    assert span_s_for(timedelta(seconds=seconds)) == expected
    assert min(seconds, LONGEST.total_seconds()) / expected <= MAX_SPANS


def test_spans_come_in_order_without_those_that_say_nothing() -> None:
    tallies = {7: tally(e2e_s=[1.0] * 3, failed=1), 2: tally(e2e_s=[2.0]), 5: tally(num_refused=4)}
    first, second = figures_of(tallies, BEGAN_AT, 10)
    assert (first.began_at, second.began_at) == (BEGAN_AT + timedelta(seconds=20), BEGAN_AT + timedelta(seconds=70))
    assert (second.num_judged, second.num_failed) == (4, 1)
    assert second.error_rate is not None
    assert second.error_rate.value == 0.25
    assert second.ttft_p95_s is None


def test_of_nothing_nothing_is_said() -> None:
    assert share(0, 0) is None
    assert quantile(histogram([]), 0.5) is None


@pytest.mark.parametrize(("num_of", "num", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 100, 0.0215, 0.1118)])
def test_shares_have_wilsons_interval(num_of: int, num: int, low: float, high: float) -> None:
    found = share(num_of, num)
    assert found is not None
    assert found.low == pytest.approx(low, abs=1e-4)
    assert found.high == pytest.approx(high, abs=1e-4)


def test_few_values_leave_a_quantile_open() -> None:
    found = quantile(histogram([0.1 * number for number in range(1, 11)]), 0.95)
    assert found is not None
    assert found.low is not None
    assert found.high is None


@pytest.mark.parametrize(("q", "true"), [(0.5, 0.5), (0.95, 0.95)])
def test_intervals_of_quantiles_hold_the_true_one_in_19_of_20(q: float, true: float) -> None:
    dice = random.Random(20261123)
    num_held = 0
    for _ in range(400):
        found = quantile(histogram([dice.random() for _ in range(200)]), q)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        num_held += found.low * (1 - RELATIVE_ERROR) <= true <= found.high * (1 + RELATIVE_ERROR)
    assert num_held >= 0.94 * 400
