"""Which share of a release's requests was slow: beyond a fixed latency, or beyond a multiple of another release's quantile.

Latencies come as histograms, so shares are known at the edges of buckets. Where an edge has to stand for a value inside a bucket, the one
is taken that makes the statement weaker: a bound that is kept is never broken for the bucket's width, nor a broken one kept.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from quantry_core.histograms import GROWTH, Histogram, bucket_of
from quantry_deploy.analysis.shares import (
    UNSTAKED,
    Counts,
    Interval,
    hedged,
    log_likelihood,
    log_marginal,
    lower_end,
    most_regret,
    needed_nats,
    share_interval,
    upper_end,
)

_LOG_UNSTAKED = math.log(UNSTAKED)


class Tails:
    """Counts above every edge of a histogram's buckets."""

    def __init__(self, finished: Histogram, given_up: Histogram | None = None) -> None:
        """``given_up`` are lower bounds of latencies: where they lie above an edge they count, elsewhere they say nothing."""
        self._finished = _Above(finished)
        self._given_up = _Above(given_up or Histogram())

    @property
    def num(self) -> int:
        """Latencies that are known."""
        return self._finished.num

    def above(self, edge: int) -> Counts:
        """Returns how many are slower than the upper edge of a bucket, and how many are not."""
        slower = self._finished.above(edge)
        return Counts(slower + self._given_up.above(edge), self._finished.num - slower)

    @property
    def num_given_up(self) -> int:
        """Latencies of which a lower bound is known."""
        return self._given_up.num

    @property
    def most(self) -> int:
        """All that any edge may have counts of."""
        return self._finished.num + self._given_up.num

    @property
    def edges(self) -> tuple[int, int] | None:
        """The edge below every count, and the one above all; None where nothing was counted."""
        buckets = [*self._finished.buckets, *self._given_up.buckets]
        return (min(buckets) - 1, max(buckets)) if buckets else None


class _Above:
    def __init__(self, histogram: Histogram) -> None:
        counted = sorted(histogram.counts.items())
        self.buckets = [bucket for bucket, _ in counted]
        self.num = sum(count for _, count in counted)
        self._up_to = [0, *accumulate(count for _, count in counted)]

    def above(self, edge: int) -> int:
        return self.num - self._up_to[bisect_right(self.buckets, edge)]


def slower_than(tails: Tails, value_s: float, error_probability: float) -> Interval:
    """Returns the confidence sequence of the share of requests that take longer than a value: either end may be relied on by itself.

    Those in the value's own bucket count as not slower for the lower end, and as slower for the upper one.
    """
    bucket = bucket_of(value_s)
    return Interval(
        share_interval(tails.above(bucket), error_probability).low, share_interval(tails.above(bucket - 1), error_probability).high
    )


def slower_than_quantile(candidate: Tails, stable: Tails, *, quantile: float, ratio: float, error_probability: float) -> Interval:
    """Returns the confidence sequence of the share of the candidate's requests that take longer than ``ratio`` times the stable's quantile.

    The quantile is a fixed number that nobody knows. For each value that it may have, the stable release's requests above it give a
    martingale, as in the quantile sequences of Howard and Ramdas (2022), and so do the candidate's above ``ratio`` times it; their product
    says which shares go with that value. A share that goes with no value is ruled out. The level is not split between the two releases.
    Either end may be relied on by itself. The ratio is taken as the nearest one of two edges, which is within RELATIVE_ERROR.
    """
    mine, theirs = candidate.edges, stable.edges
    if mine is None or theirs is None:
        return Interval(0.0, 1.0)
    shift = round(math.log(ratio) / math.log(GROWTH))
    # Beyond these edges neither release's counts change.
    edges = range(min(mine[0] - shift, theirs[0]) - 1, max(mine[1] - shift, theirs[1]) + 2)
    search = _Search(candidate, stable, edges, tail=1 - quantile, nats=needed_nats(error_probability))
    # The quantile's bucket lies above an edge, or below it; the candidate is asked at that bucket's far, or near, end.
    low, high = search.least(shift + 1), search.greatest(shift - 1)
    return Interval(min(low, high), max(low, high))


@dataclass(frozen=True)
class _Search:
    """Goes through the edges at which the stable release's quantile may lie."""

    candidate: Tails
    stable: Tails
    edges: range
    tail: float
    nats: float

    def least(self, shift: int) -> float:
        """Returns the least share of the candidate that goes with any edge that has at least the tail above it."""
        found = 1.0
        hopeless = bisect_left(self.edges, True, key=lambda edge: self._evidence(edge, max) >= self._enough)
        for edge in reversed(self.edges[:hopeless]):
            counts = self.candidate.above(edge + shift)
            marginal, start = log_marginal(counts), min(found, counts.share)
            against = marginal - log_likelihood(counts, start)
            if against + _LOG_UNSTAKED > self.nats:
                break  # Below this edge still more of the candidate's requests are slower.
            floor = marginal + self._evidence(edge, max) - self.nats
            if marginal - against >= floor:
                found = lower_end(counts, floor, start)
        return found

    def greatest(self, shift: int) -> float:
        """Returns the greatest share of the candidate that goes with any edge that has at most the tail above it."""
        found = 0.0
        first = bisect_left(self.edges, True, key=lambda edge: self._evidence(edge, min) < self._enough)
        for edge in self.edges[first:]:
            counts = self.candidate.above(edge + shift)
            marginal, start = log_marginal(counts), max(found, counts.share)
            against = marginal - log_likelihood(counts, start)
            if against + _LOG_UNSTAKED > self.nats:
                break  # Above this edge still fewer are.
            floor = marginal + self._evidence(edge, min) - self.nats
            if marginal - against >= floor:
                found = upper_end(counts, floor, start)
        return found

    @cached_property
    def _enough(self) -> float:
        """With so much evidence against an edge no share of the candidate goes with it."""
        return self.nats + most_regret(self.candidate.most)

    def _evidence(self, edge: int, side: Callable[[float, float], float]) -> float:
        """Returns the evidence, in nats, against the tail's being the share above an edge: or less (min), or more (max)."""
        counts = self.stable.above(edge)
        return hedged(log_marginal(counts) - log_likelihood(counts, side(self.tail, counts.share)))
