"""What both releases of a rollout did span by span: figures with intervals, for people to look at.

Each interval is one of 95% by itself: of twenty, one misses what is true. Verdicts stand on sequences that hold at every look
(docs/analysis.md), not on these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.histograms import Histogram
from quantry_core.traffic import Tally

LONGEST = timedelta(hours=1)
"""So much of a rollout is shown, to its end or to now: a long one has too many windows to add up for each look."""

MAX_SPANS = 60
SPANS_S = (5, 10, 15, 30, 60)
Z = 1.959964
"""Of a normal distribution, 95% lies within so many standard deviations."""


class Estimate(BaseModel):
    """A figure with its 95% interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None = Field(description="None: too few requests to say.")
    high: float | None = Field(description="None: too few requests to say.")


class SpanFigures(BaseModel):
    """What one release did in one span of time."""

    model_config = ConfigDict(frozen=True)

    began_at: datetime
    num_judged: int = Field(description="Requests answered or failed.")
    num_failed: int
    error_rate: Estimate | None = Field(description="Failed of all judged, 0 to 1. None: nothing was judged.")
    ttft_p95_s: Estimate | None = Field(description="To the first token, in seconds. None: nothing was measured.")
    e2e_p50_s: Estimate | None = Field(description="To the end of the answer, in seconds.")
    e2e_p95_s: Estimate | None


class RolloutSpans(BaseModel):
    """What both releases of a rollout did, in spans of equal length, oldest first; those with no requests are left out."""

    model_config = ConfigDict(frozen=True)

    object: Literal["rollout.spans"] = "rollout.spans"
    rollout_id: str
    since: datetime | None = Field(
        description="Where the first span begins: at the candidate's first traffic, at most an hour before the end. None: it has had none."
    )
    span_s: int = Field(default=SPANS_S[0], description="How long a span is, in seconds.")
    stable: list[SpanFigures] | None = Field(default=None, description="None: nothing served before.")
    candidate: list[SpanFigures] = []


def begin_of(exposed_at: datetime, end: datetime) -> datetime:
    """Returns where what is shown begins."""
    return max(exposed_at, end - LONGEST)


def span_s_for(shown: timedelta) -> int:
    """Returns how long spans are, in seconds, so that at most MAX_SPANS cover what is shown."""
    return next((span_s for span_s in SPANS_S if shown <= timedelta(seconds=span_s * MAX_SPANS)), SPANS_S[-1])


def figures_of(tallies: Mapping[int, Tally], begin: datetime, span_s: int) -> list[SpanFigures]:
    """Returns the figures of a release's spans with requests, oldest first; ``tallies`` by the number of the span, from 0."""
    judged = sorted(number for number, tally in tallies.items() if tally.num_judged)
    return [_figures(tallies[number], begin + timedelta(seconds=number * span_s)) for number in judged]


def share(num_of: int, num: int) -> Estimate | None:
    """Returns a share with Wilson's score interval (Wilson 1927), which keeps within 0 and 1 and is right for few; None of nothing."""
    if not num:
        return None
    value, z2 = num_of / num, Z * Z
    middle = (value + z2 / (2 * num)) / (1 + z2 / num)
    half = Z / (1 + z2 / num) * math.sqrt(value * (1 - value) / num + z2 / (4 * num * num))
    return Estimate(value=value, low=max(0.0, middle - half), high=min(1.0, middle + half))


def quantile(histogram: Histogram, q: float) -> Estimate | None:
    """Returns a quantile with an interval that asks nothing of the distribution: between two of the ordered values, whose ranks the
    binomial distribution gives (Conover 1999, 3.2), by its normal approximation; None where nothing was counted."""
    num, value = histogram.num, histogram.quantile(q)
    if value is None:
        return None
    half = Z * math.sqrt(num * q * (1 - q))
    low, high = math.floor(num * q - half), math.ceil(num * q + half) + 1
    return Estimate(value=value, low=histogram.at_rank(low) if low >= 1 else None, high=histogram.at_rank(high) if high <= num else None)


def _figures(tally: Tally, began_at: datetime) -> SpanFigures:
    return SpanFigures(
        began_at=began_at,
        num_judged=tally.num_judged,
        num_failed=tally.num_failed,
        error_rate=share(tally.num_failed, tally.num_judged),
        ttft_p95_s=quantile(tally.ttft_s, 0.95),
        e2e_p50_s=quantile(tally.e2e_s, 0.5),
        e2e_p95_s=quantile(tally.e2e_s, 0.95),
    )
