"""Shares of slow requests, against a search over every edge and share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories.traffic import histogram
from quantry_core.histograms import GROWTH, Histogram, upper_edge
from quantry_deploy.analysis.shares import UNSTAKED, Counts, log_likelihood, log_marginal, needed_nats
from quantry_deploy.analysis.tails import Tails, slower_than, slower_than_quantile

HISTOGRAMS = st.dictionaries(st.integers(-30, 30), st.integers(1, 60), max_size=12).map(lambda counts: Histogram(counts=counts))


def test_counts_above_an_edge() -> None:
    tails = Tails(Histogram(counts={3: 5, 7: 2, -4: 1}))
    assert [tails.above(edge) for edge in (-5, -4, 3, 6, 7)] == [(8, 0), (7, 1), (2, 6), (2, 6), (0, 8)]
    assert (tails.num, tails.edges) == (8, (-5, 7))
    assert Tails(Histogram()).edges is None


def test_who_gave_up_counts_only_where_the_wait_was_longer() -> None:
    tails = Tails(Histogram(counts={3: 5}), Histogram(counts={2: 4, 9: 3}))
    assert [tails.above(edge) for edge in (1, 2, 3, 9)] == [(12, 0), (8, 0), (3, 5), (0, 5)]
    assert (tails.num, tails.num_given_up, tails.most, tails.edges) == (5, 7, 12, (1, 9))


def test_a_value_inside_a_bucket_makes_both_ends_weaker() -> None:
    tails = Tails(histogram([1.0] * 50))
    inside = slower_than(tails, 1.0, 0.05)
    assert (inside.low, inside.high) == (0, 1)
    assert slower_than(tails, GROWTH**2, 0.05).high < 0.1
    assert slower_than(tails, GROWTH**-2, 0.05).low > 0.8


SHARES = np.linspace(0, 1, 2001)


def by_search(candidate: Tails, stable: Tails, *, quantile: float, ratio: float, error_probability: float) -> tuple[float, float]:
    """The definition: for every edge, every share on a grid that its product of martingales leaves open."""
    shift, nats = round(math.log(ratio) / math.log(GROWTH)), needed_nats(error_probability)
    lowest, greatest = 1.0, 0.0
    for edge in range(-80, 80):
        there = stable.above(edge)
        for is_least in (True, False):
            tail = 1 - quantile
            nearest = max(tail, there.share) if is_least else min(tail, there.share)
            evidence = np.logaddexp(math.log(UNSTAKED), math.log(1 - UNSTAKED) + log_marginal(there) - log_likelihood(there, nearest))
            counts = candidate.above(edge + shift + 1 if is_least else edge + shift - 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                parts = [np.where(num > 0, num * np.log(q), 0.0) for num, q in zip(counts, (SHARES, 1 - SHARES), strict=True)]
            is_open = SHARES[log_marginal(counts) - parts[0] - parts[1] + evidence <= nats]
            if is_open.size and is_least:
                lowest = min(lowest, float(is_open.min()))
            elif is_open.size:
                greatest = max(greatest, float(is_open.max()))
    return lowest, greatest


def lognormal(seed: int, num: int, scale: float = 1.0) -> list[float]:
    return [float(value) for value in scale * np.random.default_rng(seed).lognormal(0, 0.3, num)]


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.6, 3.0])
@pytest.mark.parametrize(("num", "num_stable"), [(8, 20), (60, 60), (90, 800)])
@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_the_interval_is_what_a_search_over_edges_and_shares_leaves_open(num: int, num_stable: int, scale: float, quantile: float) -> None:
    candidate = Tails(histogram(lognormal(1, num, scale)), histogram(lognormal(3, num // 10, scale)))
    stable = Tails(histogram(lognormal(2, num_stable)), histogram(lognormal(4, num_stable // 10)))
    low, high = slower_than_quantile(candidate, stable, quantile=quantile, ratio=1.5, error_probability=0.025)
    expected = by_search(candidate, stable, quantile=quantile, ratio=1.5, error_probability=0.025)
    assert (low, high) == pytest.approx(expected, abs=6e-4)


ASKED = st.fixed_dictionaries(
    {"quantile": st.sampled_from([0.5, 0.9]), "ratio": st.sampled_from([1.2, 2.5]), "error_probability": st.sampled_from([0.02, 0.4])}
)


@settings(max_examples=60, deadline=None)
@given(HISTOGRAMS, HISTOGRAMS, HISTOGRAMS, ASKED)
def test_whatever_the_histograms_the_search_finds_the_same(
    mine: Histogram, theirs: Histogram, given_up: Histogram, asked: dict[str, float]
) -> None:
    candidate, stable = Tails(mine, given_up), Tails(theirs, Histogram(counts={at + 3: num for at, num in given_up.counts.items()}))
    if candidate.edges and stable.edges:
        # A grid does not see an interval that is narrower than its step: no such one may then be left out.
        low, high = slower_than_quantile(candidate, stable, **asked)
        expected = by_search(candidate, stable, **asked)
        assert low <= expected[0] + 1e-9 and high >= expected[1] - 1e-9
        assert (low, high) == pytest.approx(expected, abs=6e-4) or expected[0] > expected[1]


@settings(deadline=None)
@given(HISTOGRAMS, HISTOGRAMS, HISTOGRAMS, st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.floats(1.01, 100))
def test_an_interval_is_one_and_ends_early_search_or_not(
    mine: Histogram, theirs: Histogram, given_up: Histogram, quantile: float, ratio: float
) -> None:
    low, high = slower_than_quantile(Tails(mine, given_up), Tails(theirs), quantile=quantile, ratio=ratio, error_probability=0.05)
    assert 0 <= low <= high <= 1
    if not theirs.counts or not (mine.counts or given_up.counts):
        assert (low, high) == (0, 1)


@settings(max_examples=50, deadline=None)
@given(HISTOGRAMS, HISTOGRAMS, st.integers(1, 20))
def test_slower_requests_of_the_candidate_move_both_ends_up(mine: Histogram, theirs: Histogram, by: int) -> None:
    slower = Histogram(counts={bucket + by: count for bucket, count in mine.counts.items()})
    before, after = (
        slower_than_quantile(Tails(one), Tails(theirs), quantile=0.9, ratio=1.5, error_probability=0.05) for one in (mine, slower)
    )
    assert after.low >= before.low - 1e-6
    assert after.high >= before.high - 1e-6


@settings(deadline=None)
@given(HISTOGRAMS, HISTOGRAMS, st.integers(-200, 200))
def test_seconds_and_minutes_tell_the_same(mine: Histogram, theirs: Histogram, by: int) -> None:
    def moved(one: Histogram) -> Tails:
        return Tails(Histogram(counts={bucket + by: count for bucket, count in one.counts.items()}))

    before = slower_than_quantile(Tails(mine), Tails(theirs), quantile=0.95, ratio=2.0, error_probability=0.05)
    after = slower_than_quantile(moved(mine), moved(theirs), quantile=0.95, ratio=2.0, error_probability=0.05)
    assert after == pytest.approx(before, abs=1e-9)


def test_a_ratio_is_that_of_the_nearest_edges() -> None:
    stable, candidate = Tails(Histogram(counts={0: 500})), Tails(Histogram(counts={10: 200}))
    asked = {"quantile": 0.95, "error_probability": 0.05}
    # All of the candidate lies ten buckets up: slower than nine of them, not than eleven, and neither for sure where ten are asked.
    for ratio in (upper_edge(9), 1.018 * upper_edge(9), upper_edge(9) / 1.018):
        assert slower_than_quantile(candidate, stable, ratio=ratio, **asked).low > 0.9
    assert slower_than_quantile(candidate, stable, ratio=upper_edge(10), **asked).low == 0
    assert slower_than_quantile(candidate, stable, ratio=upper_edge(10), **asked).high == 1
    assert slower_than_quantile(candidate, stable, ratio=upper_edge(11), **asked).high < 0.1


def test_counts_are_compared_with_their_own_share() -> None:
    assert Counts(3, 1).share == 0.75 and Counts(0, 0).share == 0
