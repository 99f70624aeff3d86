"""Mergeable histograms of positive numbers with a bounded relative error.

Buckets grow by a constant factor, as in DDSketch (Masson, Rim, Lee 2019): a value x falls into bucket ceil(log(x) / log(GROWTH)), and
every quantile read from the counts is within RELATIVE_ERROR of a true one. Two histograms are merged by adding their counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

RELATIVE_ERROR = 0.02
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SMALLEST = 1e-6
"""Smaller values count as this one."""
LARGEST = 1e12
"""Larger ones as this."""

_LOG_GROWTH = math.log(GROWTH)


def bucket_of(value: float) -> int:
    """Returns the bucket of a value; infinity and NaN have none: ValueError."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no place in a histogram")
    return math.ceil(math.log(min(max(value, SMALLEST), LARGEST)) / _LOG_GROWTH)


def upper_edge(bucket: int) -> float:
    """Returns the largest value that falls into a bucket."""
    return math.exp(bucket * _LOG_GROWTH)


Bucket = Annotated[int, Field(ge=bucket_of(SMALLEST), le=bucket_of(LARGEST))]
Count = Annotated[int, Field(ge=0)]


class Histogram(BaseModel):
    """Counts by bucket."""

    model_config = ConfigDict(frozen=True)

    counts: dict[Bucket, Count] = Field(default_factory=dict)

    @property
    def num(self) -> int:
        """Values counted."""
        return sum(self.counts.values())

    def merged(self, other: Histogram) -> Histogram:
        """Returns the histogram of both sets of values."""
        counts = dict(self.counts)
        add_counts(counts, other.counts)
        return Histogram(counts=counts)

    def quantile(self, q: float) -> float | None:
        """Returns a value within RELATIVE_ERROR of the q-quantile (0 <= q <= 1); None where nothing was counted."""
        num = self.num
        return self.at_rank(max(1, math.ceil(q * num))) if num else None

    def at_rank(self, rank: int) -> float:
        """Returns a value within RELATIVE_ERROR of the rank-th smallest; 1 <= rank <= num, otherwise IndexError."""
        seen = 0
        for bucket in sorted(self.counts) if rank >= 1 else ():
            seen += self.counts[bucket]
            if seen >= rank:
                return 2 * upper_edge(bucket) / (GROWTH + 1)
        raise IndexError(f"{self.num} values have none of rank {rank}")

    def num_above(self, value: float) -> int:
        """Returns how many values lie in buckets above the value's own."""
        bucket = bucket_of(value)
        return sum(count for at, count in self.counts.items() if at > bucket)


def add_counts(into: dict[int, int], counts: Mapping[int, int]) -> None:
    """Adds counts by bucket to others, in place."""
    for bucket, count in counts.items():
        into[bucket] = into.get(bucket, 0) + count
