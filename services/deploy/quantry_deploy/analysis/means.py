"""A confidence sequence for the mean of numbers between 0 and 1, from their number, sum and sum of squares.

Two supermartingales, half of the stake in each. One takes the numbers for shares of events (shares.py); it is good where they are near 0
and 1. The other is the empirical Bernstein one (Howard, Ramdas, McAuliffe, Sekhon 2021, theorem 4; Waudby-Smith, Ramdas 2024), which is
good where they are close together: for every x_i with a predictable guess g_i and 0 <= l < 1,

    exp( l sum(x_i - mean) - (-log(1 - l) - l) sum (x_i - g_i)^2 )

is one. The usual guess is the mean so far, which needs the numbers in their order. Here guesses are constants, several of them, mixed as
values of l are: the three sums over all numbers then suffice, and windows may come late, in any order, or merged with others. That costs at
most the logarithm of the number of guesses, and saves what a mean so far is off in the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from quantry_deploy.analysis.shares import Counts, Interval, log_likelihood, log_marginal, needed_nats

STAKES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.3, 0.5, 0.7, 0.85, 0.95)
"""The values of l that are mixed, in equal parts."""
GUESSES = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.3, 0.5, 0.7, 0.9)
"""The values of g, in equal parts: close together where means of good candidates are."""

_COSTS = tuple(-math.log1p(-stake) - stake for stake in STAKES)
_LOG_HALF = math.log(0.5)
_LOG_PART = math.log(0.5 / (len(STAKES) * len(GUESSES)))
_NUM_STEPS = 40


class Sums(NamedTuple):
    """Of numbers between 0 and 1."""

    num: int
    total: float
    square_total: float

    def check(self) -> None:
        """Raises ValueError where these are the sums of no such numbers."""
        slack = 1e-9 * (1 + self.num)
        is_mean = 0 <= self.total <= self.num + slack
        if not (is_mean and self.total**2 <= self.num * (self.square_total + slack) and self.square_total <= self.total + slack):
            squares = f"of squares of {self.square_total:g}"
            raise ValueError(f"a sum of {self.total:g} and {squares} are not of {self.num} numbers between 0 and 1")

    @property
    def mean(self) -> float:
        """0 where there are no numbers."""
        return self.total / self.num if self.num else 0.0


def mean_interval(sums: Sums, error_probability: float) -> Interval:
    """Returns what the mean may be, however often it is looked at: each end is wrong, ever, with at most this probability.

    Raises ValueError where the sums are those of no numbers between 0 and 1.
    """
    sums.check()
    if not sums.num:
        return Interval(0.0, 1.0)
    nats = needed_nats(error_probability)
    kept = [_log_sum(-cost * _spread(sums, guess) for guess in GUESSES) for cost in _COSTS]
    high = _least_refuted(sums.num, sums.total, kept, nats)
    return Interval(1.0 - _least_refuted(sums.num, sums.num - sums.total, kept, nats), high)


def _spread(sums: Sums, guess: float) -> float:
    return max(0.0, sums.square_total - 2 * guess * sums.total + sums.num * guess * guess)


def _least_refuted(num: int, total: float, kept: list[float], nats: float) -> float:
    """Returns the least mean, from the observed one on, that is refuted as too great; 1 where none is.

    ``kept`` is, for each stake, the logarithm of what the spread around the guesses leaves of it.
    """
    counts = Counts(max(0.0, total), max(0.0, num - total))
    marginal = log_marginal(counts)

    def evidence(mean: float) -> float:
        as_shares = _LOG_HALF + marginal - log_likelihood(counts, mean)
        off = num * mean - total
        return _log_sum([as_shares, *(_LOG_PART + stake * off + left for stake, left in zip(STAKES, kept, strict=True))])

    low, high = counts.share, 1.0
    if evidence(high) < nats:
        return high
    for _ in range(_NUM_STEPS):
        middle = (low + high) / 2
        if evidence(middle) < nats:
            low = middle
        else:
            high = middle
    return high


def _log_sum(parts: Iterable[float]) -> float:
    """Returns the logarithm of the sum of what these are logarithms of."""
    listed = list(parts)
    most = max(listed)
    return most if math.isinf(most) else most + math.log(math.fsum(math.exp(part - most) for part in listed))
