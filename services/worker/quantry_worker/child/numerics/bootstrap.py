"""A 95% interval of a mean over tokens, by resampling blocks of windows. Pure numpy.

Tokens of one window depend on each other, so a token is no unit to draw: whole windows are, and past ``MAX_BLOCKS`` of them
runs of neighbouring windows (Carlstein 1986, non-overlapping blocks). The statistic is a ratio of sums, summed change over
number of tokens, taken anew from each resample (Efron and Tibshirani 1993, chapter 13: percentile interval). Both models
are scored on the same tokens and the change is taken token by token: that is what makes it paired.

A percentile interval of few blocks is too short: it lacks the factor sqrt(n / (n - 1)) and the t quantile. The percentiles
are moved out by what a normal mean would need (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", the expanded
percentile interval).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
MIN_BLOCKS = 5
"""With fewer there is too little to draw from, and no interval is stated."""
MAX_BLOCKS = 1000
PIECE_COUNTS = 1 << 20
"""Counts drawn at a time: 8 MB of them."""


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    num_blocks: int
    num_resamples: int


def mean_interval(
    sums: NDArray[np.float64], counts: NDArray[np.float64], *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Interval | None:
    """Returns the 95% interval of sum(sums) / sum(counts), the same for the same seed; None for fewer than five windows.

    ``sums`` holds the change summed over each window's tokens, ``counts`` how many those are, both of shape [num_windows], in
    the order of the text. The interval has the unit of ``sums`` per token.
    """
    if len(sums) < MIN_BLOCKS:
        return None
    block_sums, block_counts = _blocks(sums), _blocks(counts)
    num_blocks = len(block_sums)
    generator = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    per_piece = max(1, PIECE_COUNTS // num_blocks)
    for start in range(0, num_resamples, per_piece):
        size = min(per_piece, num_resamples - start)
        # How often each block is drawn: as many draws as there are blocks, with replacement.
        drawn = generator.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=size)
        means.append((drawn @ block_sums) / (drawn @ block_counts))
    tail = _tail(num_blocks)
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high), num_blocks, num_resamples)


def t_quantile(probability: float, degrees: int) -> float:
    """Returns Student's t quantile by its expansion about the normal's (Abramowitz and Stegun 26.7.5); degrees at least 4."""
    x = NormalDist().inv_cdf(probability)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    quantile: float = x + sum(term / degrees**power for power, term in enumerate(terms, start=1))
    return quantile


def _tail(num_blocks: int) -> float:
    """Returns the share below the interval: 2.5% for many blocks, less for few."""
    t = t_quantile((1 + CONFIDENCE) / 2, num_blocks - 1)
    return NormalDist().cdf(-t * math.sqrt(num_blocks / (num_blocks - 1)))


def _blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the values of neighbouring windows added up, so that there are at most MAX_BLOCKS."""
    width = math.ceil(len(values) / MAX_BLOCKS)
    return np.asarray(np.add.reduceat(values, np.arange(0, len(values), width)), dtype=np.float64)
