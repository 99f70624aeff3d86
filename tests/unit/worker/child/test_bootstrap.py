"""The interval of a paired change: coverage on simulated text, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from quantry_worker.child.numerics.bootstrap import MAX_BLOCKS, MIN_BLOCKS, mean_interval, t_quantile

TOKENS = 50.0


def simulated(generator: np.random.Generator, num_windows: int) -> NDArray[np.float64]:
    """Returns the summed change of each window: tokens of one share a part, as in text, so a token is no independent draw.

    The change of a token has mean 0.1; the mean over a window has variance 0.04 + 0.25 / 50.
    """
    shared = generator.normal(0.1, 0.2, size=(num_windows, 1))
    return np.asarray((shared + generator.normal(0, 0.5, size=(num_windows, int(TOKENS)))).sum(axis=1), dtype=np.float64)


@pytest.mark.parametrize("num_windows", [6, 20, 50])
def test_it_covers_the_truth_95_times_in_100(num_windows: int) -> None:
    generator = np.random.default_rng(1)
    trials = 400
    covered = 0
    for trial in range(trials):
        sums = simulated(generator, num_windows)
        interval = mean_interval(sums, np.full(num_windows, TOKENS), seed=trial, num_resamples=600)
        assert interval is not None
        covered += interval.low <= 0.1 <= interval.high
    # Four standard errors of a count of 400 with p = 0.95.
    assert covered / trials == pytest.approx(0.95, abs=0.0436)


def test_tokens_as_units_would_not_cover_it() -> None:
    generator = np.random.default_rng(2)
    sums = simulated(generator, 100)
    interval = mean_interval(sums, np.full(100, TOKENS), seed=0)
    assert interval is not None
    width = interval.high - interval.low
    # Closed forms: 2 * 1.984 * sqrt(0.045 / 100) for windows; for 5000 tokens of variance 0.29, a fifth of that.
    assert width == pytest.approx(2 * 1.984 * (0.045 / 100) ** 0.5, rel=0.25)
    assert width > 2 * (2 * 1.96 * (0.29 / 5000) ** 0.5)


def test_it_is_the_t_interval_where_windows_are_equal_and_normal() -> None:
    means = np.random.default_rng(3).normal(0.02, 0.01, size=30)
    interval = mean_interval(means * TOKENS, np.full(30, TOKENS), seed=5)
    assert interval is not None
    half = 2.0452 * means.std(ddof=1) / 30**0.5  # t of 29 degrees
    assert interval.low == pytest.approx(means.mean() - half, abs=half * 0.12)
    assert interval.high == pytest.approx(means.mean() + half, abs=half * 0.12)


def test_the_same_seed_gives_the_same_interval_and_tokens_weigh_the_same() -> None:
    generator = np.random.default_rng(4)
    sums, counts = generator.normal(size=40), generator.integers(10, 100, size=40).astype(np.float64)
    first, again, other = (mean_interval(sums, counts, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    # A change that is the same at every token has no spread, however long windows are.
    flat = mean_interval(0.3 * counts, counts, seed=0)
    assert flat is not None
    assert [flat.low, flat.high] == pytest.approx([0.3, 0.3])


def test_too_few_windows_give_no_interval_and_very_many_join_into_blocks() -> None:
    few = np.ones(MIN_BLOCKS - 1)
    assert mean_interval(few, few, seed=0) is None
    many = np.ones(2 * MAX_BLOCKS + 500)
    interval = mean_interval(many, many, seed=0, num_resamples=50)
    assert interval is not None
    assert 500 < interval.num_blocks <= MAX_BLOCKS


@pytest.mark.parametrize(("degrees", "expected"), [(4, 2.7764), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)])
def test_t_quantiles_are_those_of_the_tables(degrees: int, expected: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(expected, abs=2e-3)
