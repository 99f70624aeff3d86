"""Confidence sequences of shares and differences, against integrals and grids that share no code with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantry_deploy.analysis.shares import (
    PRIOR,
    UNSTAKED,
    Counts,
    difference_interval,
    hedged,
    log_likelihood,
    log_marginal,
    most_regret,
    needed_nats,
    num_needed,
    share_interval,
)

COUNTS = st.builds(Counts, st.integers(0, 400), st.integers(0, 4000))
NATS = needed_nats(0.025)


@pytest.mark.parametrize("counts", [(0, 0), (0, 7), (7, 0), (1, 90), (30, 20), (3.5, 40.25), (12, 800)])
def test_the_mean_over_the_prior_is_its_integral(counts: tuple[float, float]) -> None:
    # Quantiles of Beta(a, 1) are u^(1/a), those of Beta(1/2, 1/2) sin^2(pi u / 2): midpoints of u integrate over both.
    (weight, a, b), (rest, c, d) = PRIOR
    assert (b, c, d) == (1.0, 0.5, 0.5)
    u = (np.arange(2_000_000) + 0.5) / 2_000_000
    events, others = counts

    def mean(q: np.ndarray) -> float:
        return float(np.mean(q**events * (1 - q) ** others))

    expected = weight * mean(u ** (1 / a)) + rest * mean(np.sin(np.pi * u / 2) ** 2)
    assert log_marginal(Counts(*counts)) == pytest.approx(math.log(expected), abs=1e-4)


@settings(deadline=None)
@given(COUNTS)
def test_the_ends_of_an_interval_are_where_the_evidence_is_just_enough(counts: Counts) -> None:
    low, high = share_interval(counts, 0.025)
    assert 0 <= low <= counts.share <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert log_marginal(counts) - log_likelihood(counts, end) == pytest.approx(NATS, abs=1e-3)
    assert (low == 0) == (log_marginal(counts) - log_likelihood(counts, 0.0) <= NATS)
    assert (high == 1) == (log_marginal(counts) - log_likelihood(counts, 1.0) <= NATS)


@settings(deadline=None)
@given(COUNTS)
def test_one_event_in_place_of_none_moves_both_ends_up(counts: Counts) -> None:
    events, others = counts
    before, after = share_interval(counts, 0.05), share_interval(Counts(events + 1, max(0, others - 1)), 0.05)
    assert after.low >= before.low - 1e-9
    assert after.high >= before.high - 1e-9


@settings(deadline=None)
@given(COUNTS)
def test_a_smaller_error_probability_makes_it_wider(counts: Counts) -> None:
    loose, strict = share_interval(counts, 0.1), share_interval(counts, 0.01)
    assert strict.low <= loose.low and strict.high >= loose.high


def test_nothing_counted_says_nothing() -> None:
    assert share_interval(Counts(0, 0), 0.05) == (0, 1)
    assert difference_interval(Counts(0, 0), Counts(0, 0), 0.05) == (-1, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, 90), (0, 810)),
        ((6, 0), (0, 54)),
        ((3, 60), (20, 300)),
        ((40, 60), (5, 95)),
        ((5, 95), (40, 60)),
        ((0, 30), (30, 0)),
        ((2, 3), (0, 0)),
    ],
)
def test_a_difference_is_what_a_grid_over_both_shares_leaves_open(one: tuple[int, int], other: tuple[int, int]) -> None:
    p = np.linspace(0, 1, 4001)

    def evidence(counts: tuple[int, int]) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [np.where(num > 0, num * np.log(q), 0.0) for num, q in zip(counts, (p, 1 - p), strict=True)]
        return log_marginal(Counts(*counts)) - parts[0] - parts[1]

    of_other = np.logaddexp(math.log(UNSTAKED), math.log(1 - UNSTAKED) + evidence(other))
    is_open = evidence(one)[:, None] + of_other[None, :] <= NATS
    differences = (p[:, None] - p[None, :])[is_open]
    low, high = difference_interval(Counts(*one), Counts(*other), 0.025)
    assert low == pytest.approx(differences.min(), abs=1e-3) and low <= differences.min() + 1e-9
    assert high == pytest.approx(differences.max(), abs=1e-3) and high >= differences.max() - 1e-9


@settings(deadline=None)
@given(COUNTS, COUNTS)
def test_the_observed_difference_is_always_open(one: Counts, other: Counts) -> None:
    low, high = difference_interval(one, other, 0.05)
    assert -1 <= low <= high <= 1
    if one.num and other.num:
        assert low - 1e-9 <= one.share - other.share <= high + 1e-9


@settings(deadline=None)
@given(st.floats(-20, 600))
def test_what_is_kept_aside_bounds_the_loss(evidence: float) -> None:
    assert hedged(evidence) >= math.log(UNSTAKED)
    assert hedged(evidence) >= evidence + math.log(1 - UNSTAKED)
    assert hedged(evidence) == pytest.approx(float(np.logaddexp(math.log(UNSTAKED), math.log(1 - UNSTAKED) + evidence)))


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3000))
def test_the_regret_is_bounded(events: int, others: int) -> None:
    counts = Counts(events, others)
    assert log_likelihood(counts, counts.share) - log_marginal(counts) <= most_regret(counts.num) + 1e-9


@pytest.mark.parametrize("bound", [0.001, 0.02, 0.05, 0.1, 0.9])
def test_so_many_requests_without_an_event_are_just_enough(bound: float) -> None:
    num = num_needed(bound, NATS)
    assert share_interval(Counts(0, num), 0.025).high <= bound
    assert share_interval(Counts(0, num - 1), 0.025).high > bound
