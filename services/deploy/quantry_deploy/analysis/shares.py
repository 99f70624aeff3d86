"""Confidence sequences for a share and for the difference of two, from counts alone, valid however often they are looked at.

Of n requests s are events: failed, or slower than something. For every share q, (q/p)^s ((1-q)/(1-p))^(n-s) is a martingale where p is the
true share, and so is its mean over a prior of q. By Ville's inequality it reaches 1/a with probability at most a, ever; the values of p at
which it has not are a confidence sequence of level 1 - a (Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021; Waudby-Smith, Ramdas 2024).
The martingales of two releases whose requests are independent multiply, so one level serves both shares, and whatever follows from them.

With a prior of Beta distributions the mean over q has a closed form. It depends on s and n alone, not on the order of events or on how they
were cut into windows. Counts may be sums of numbers between 0 and 1: the martingale is then a supermartingale, and all of this holds.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

PRIOR = ((0.9, 0.1, 1.0), (0.1, 0.5, 0.5))
"""Weight and parameters of Beta distributions. Most of it lies near 0, where the errors and slow requests of a good release do: after 100
requests without an event it is 0.55 of what knowing that there are none would give. The rest is for shares in the middle and near 1."""

UNSTAKED = 0.5
"""Of the martingale of whom a release is compared with. All that this can cost is a factor of 2, 0.7 nats."""

_PLENTY = 700.0

NUM_STEPS = 32
"""Halvings of an interval: to 2^-32 of it."""


class Interval(NamedTuple):
    """The values that are not ruled out."""

    low: float
    high: float


class Counts(NamedTuple):
    """Events, and what were none."""

    num_events: float
    num_others: float

    @property
    def num(self) -> float:
        return self.num_events + self.num_others

    @property
    def share(self) -> float:
        """The observed share; 0 where nothing was counted."""
        return self.num_events / self.num if self.num > 0 else 0.0


def needed_nats(error_probability: float) -> float:
    """Returns how much evidence, as a natural logarithm, rules something out."""
    return -math.log(error_probability)


def log_likelihood(counts: Counts, share: float) -> float:
    """Returns the logarithm of share^events (1 - share)^others; minus infinity where that is 0."""
    events, others = counts
    found = 0.0
    if events > 0:
        if share <= 0:
            return -math.inf
        found += events * math.log(share)
    if others > 0:
        if share >= 1:
            return -math.inf
        found += others * math.log1p(-share)
    return found


@lru_cache(maxsize=8192)
def log_marginal(counts: Counts) -> float:
    """Returns the logarithm of the likelihood's mean over PRIOR."""
    events, others = counts
    parts = [
        offset + math.lgamma(a + events) + math.lgamma(b + others) - math.lgamma(a + b + events + others) for offset, a, b in _PRIOR_OFFSETS
    ]
    most = max(parts)
    return most + math.log(math.fsum(math.exp(part - most) for part in parts))


def most_regret(num: float) -> float:
    """Returns the most that the logarithm of the greatest likelihood of so many requests can be above the logarithm of its mean over PRIOR.

    For Beta(1/2, 1/2) alone that is log(n) / 2 + log 2 (Krichevsky, Trofimov 1981).
    """
    return math.log(max(num, 1.0)) / 2 + math.log(2 / PRIOR[1][0])


_PRIOR_OFFSETS = tuple((math.log(weight) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b), a, b) for weight, a, b in PRIOR)


def share_interval(counts: Counts, error_probability: float) -> Interval:
    """Returns the confidence sequence of a share: (0, 1) while nothing was counted."""
    floor = log_marginal(counts) - needed_nats(error_probability)
    return Interval(lower_end(counts, floor, counts.share), upper_end(counts, floor, counts.share))


def lower_end(counts: Counts, floor: float, below: float) -> float:
    """Returns the least share up to ``below``, itself at most the observed one, whose log-likelihood reaches ``floor``.

    ``below`` where even that does not reach it.
    """
    low, high = 0.0, below
    if log_likelihood(counts, low) >= floor:
        return low
    for _ in range(NUM_STEPS):
        middle = (low + high) / 2
        if log_likelihood(counts, middle) >= floor:
            high = middle
        else:
            low = middle
    return low


def upper_end(counts: Counts, floor: float, above: float) -> float:
    """Returns the greatest share from ``above`` on, itself at least the observed one, whose log-likelihood reaches ``floor``."""
    return 1.0 - lower_end(_flipped(counts), floor, 1.0 - above)


def difference_interval(one: Counts, other: Counts, error_probability: float) -> Interval:
    """Returns the confidence sequence of one's share less the other's, from the product of both martingales: the level is not split.

    Of the other's martingale a share is not staked (``hedged``): where it is known well already, its precision costs no evidence.
    """
    nats = needed_nats(error_probability)
    room, margin = nats - log_marginal(one), log_marginal(other)
    low = -_greatest_difference(_flipped(one), _flipped(other), room, margin)
    return Interval(low, _greatest_difference(one, other, room, margin))


def hedged(evidence_nats: float) -> float:
    """Returns the evidence of a martingale of which UNSTAKED is kept aside: never less than its logarithm."""
    staked = math.log1p(-UNSTAKED) + evidence_nats
    kept = math.log(UNSTAKED)
    return max(staked, kept) + math.log1p(math.exp(-abs(staked - kept)))


def _greatest_difference(one: Counts, other: Counts, room: float, margin: float) -> float:
    """Returns the greatest p - r that is not ruled out: -log_likelihood(one, p) and what is known against r are together within ``room``.

    What is known against r is ``hedged(margin - log_likelihood(other, r))``. Both are convex, so at the greatest difference their slopes
    are equal and opposite (Lagrange): that gives the p of each r, and r is searched for.
    """

    def partner(r: float) -> float:
        against = margin - log_likelihood(other, r)
        staked = 1.0 if against > _PLENTY else 1.0 / (1.0 + math.exp(-against) * UNSTAKED / (1 - UNSTAKED))
        slope = staked * (other.num_events / r - other.num_others / (1 - r))
        return _share_of_slope(one, -slope)

    def is_open(p: float, r: float) -> bool:
        return -log_likelihood(one, p) + hedged(margin - log_likelihood(other, r)) <= room

    low, high = 0.0, other.share
    for _ in range(NUM_STEPS if other.num_events > 0 else 0):
        middle = (low + high) / 2
        if is_open(partner(middle), middle):
            high = middle
        else:
            low = middle
    return upper_end(one, hedged(margin - log_likelihood(other, high)) - room, one.share) - high


def _flipped(counts: Counts) -> Counts:
    return Counts(counts.num_others, counts.num_events)


def _share_of_slope(counts: Counts, slope: float) -> float:
    """Returns the share at which the log-likelihood has this slope: s/p - (n-s)/(1-p) = slope, a quadratic equation in p."""
    events, num = counts.num_events, counts.num
    middle = slope + num
    root = math.sqrt(max(0.0, middle * middle - 4 * slope * events))
    # Of the two forms of the one solution in [0, 1], the one that subtracts no neighbours.
    return 2 * events / (middle + root) if middle > 0 else (middle - root) / (2 * slope)


@lru_cache(maxsize=1024)
def num_needed(bound: float, nats: float) -> int:
    """Returns of how many requests none must be an event for a share of ``bound`` to be ruled out by so much evidence."""
    each = -math.log1p(-bound)
    num = math.ceil(nats / each)
    while num * each + log_marginal(Counts(0, num)) < nats:
        num = max(num + 1, math.ceil((nats - log_marginal(Counts(0, num))) / each))
    return num
