"""The confidence sequence of a bounded mean, against the process written out number by number."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantry_deploy.analysis.means import GUESSES, STAKES, Sums, mean_interval
from quantry_deploy.analysis.shares import Counts, log_likelihood, log_marginal

VALUES = st.lists(st.floats(0, 1), max_size=60)


def sums_of(values: list[float]) -> Sums:
    return Sums(len(values), math.fsum(values), math.fsum(value**2 for value in values))


def against_more(values: list[float], mean: float) -> float:
    """The supermartingale against a mean that is too great, from its definition."""
    products = []
    for stake in STAKES:
        cost = -math.log(1 - stake) - stake
        for guess in GUESSES:
            products.append(math.prod(math.exp(stake * (mean - value) - cost * (value - guess) ** 2) for value in values))
    counts = Counts(sum(values), len(values) - sum(values))
    return 0.5 * math.exp(log_marginal(counts) - log_likelihood(counts, mean)) + 0.5 * sum(products) / len(products)


def some_values(seed: int, num: int, mean: float, spread: float = 2.0) -> list[float]:
    draw = random.Random(seed)
    return [draw.betavariate(spread * mean, spread * (1 - mean)) for _ in range(num)]


@pytest.mark.parametrize(("num", "mean"), [(12, 0.05), (100, 0.05), (100, 0.5), (40, 0.9)])
def test_the_ends_are_where_the_process_reaches_its_limit(num: int, mean: float) -> None:
    values = some_values(3, num, mean)
    low, high = mean_interval(sums_of(values), 0.05)
    assert low < high
    assert high == 1 or against_more(values, high) == pytest.approx(20, rel=1e-3)
    # From below the same holds of what is left of 1, but the guesses stay where they are: the spread around them is the same.
    if low > 0:
        refuted, open_still = 0.99 * low, min(1.01 * low, 1.0)
        assert mean_interval(sums_of(values), 0.05).low == low
        assert against_less(values, refuted) > 20 > against_less(values, open_still)


def against_less(values: list[float], mean: float) -> float:
    """The one against a mean that is too small."""
    products = []
    for stake in STAKES:
        cost = -math.log(1 - stake) - stake
        for guess in GUESSES:
            products.append(math.prod(math.exp(stake * (value - mean) - cost * (value - guess) ** 2) for value in values))
    # The share of what is left of 1 is the one that the prior is asked about.
    counts = Counts(len(values) - sum(values), sum(values))
    return 0.5 * math.exp(log_marginal(counts) - log_likelihood(counts, 1 - mean)) + 0.5 * sum(products) / len(products)


def test_each_step_of_the_process_is_fair_or_worse() -> None:
    # The expectation over one number more, for distributions with this mean: two points, three points, and one.
    for values, chances in (([0.0, 1.0], [0.8, 0.2]), ([0.0, 0.1, 0.9], [0.25, 0.55, 0.2]), ([0.2], [1.0])):
        mean = sum(value * chance for value, chance in zip(values, chances, strict=True))
        for process in (against_more, against_less):
            assert process([], mean) == pytest.approx(1)
            expected = sum(chance * process([value], mean) for value, chance in zip(values, chances, strict=True))
            assert expected <= 1 + 1e-12


@settings(deadline=None)
@given(VALUES)
def test_the_observed_mean_is_always_open(values: list[float]) -> None:
    sums = sums_of(values)
    low, high = mean_interval(sums, 0.05)
    assert 0 <= low <= high <= 1
    if values:
        assert low - 1e-9 <= sums.mean <= high + 1e-9
    else:
        assert (low, high) == (0, 1)


@settings(deadline=None)
@given(VALUES)
def test_a_smaller_error_probability_makes_it_wider(values: list[float]) -> None:
    loose, strict = (mean_interval(sums_of(values), level) for level in (0.1, 0.01))
    assert strict.low <= loose.low + 1e-9 and strict.high >= loose.high - 1e-9


@pytest.mark.parametrize(
    ("num", "total", "squares"),
    [
        (0, 1.0, 1.0),
        (3, 4.0, 4.0),
        (3, 1.0, 2.0),
        (3, 1.5, 0.1),
        (3, math.inf, 1.0),
        (3, math.nan, 1.0),
        (3, 1.0, math.nan),
        (3, -1.0, 1.0),
        (-1, 0.0, 0.0),
    ],
)
def test_sums_that_cannot_be_are_refused(num: int, total: float, squares: float) -> None:
    with pytest.raises(ValueError, match="numbers between 0 and 1"):
        mean_interval(Sums(num, total, squares), 0.05)


def test_numbers_that_lie_close_together_are_known_sooner_than_shares() -> None:
    steady, coin = [0.3] * 160, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0] * 16
    narrow, wide = (mean_interval(sums_of(values), 0.05) for values in (steady, coin))
    assert narrow.high - narrow.low < 0.6 * (wide.high - wide.low)


def test_the_true_mean_is_ruled_out_rarely_although_it_is_looked_at_all_the_time() -> None:
    draw = random.Random(20261123)
    num_wrong = 0
    for _ in range(80):
        values: list[float] = []
        for _ in range(40):
            values += [draw.betavariate(0.2, 1.8) for _ in range(3)]
            low, high = mean_interval(sums_of(values), 0.05)
            if not low <= 0.1 <= high:
                num_wrong += 1
                break
    # Each end may be wrong in one of 20 runs: 8 of 80. Ville's inequality leaves room, so that more than 6 would be a surprise.
    assert num_wrong <= 6
