"""What gateways tell of releases, made of plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from quantry_core.histograms import Histogram, bucket_of
from quantry_core.traffic import PairTally, ReleaseTraffic, Tally, TrafficWindow

BEGAN_AT = datetime(2026, 11, 23, tzinfo=UTC)


def histogram(values: Iterable[float]) -> Histogram:
    """Returns the histogram of these values."""
    counts: dict[int, int] = {}
    for value in values:
        bucket = bucket_of(value)
        counts[bucket] = counts.get(bucket, 0) + 1
    return Histogram(counts=counts)


def tally(*, failed: int = 0, e2e_s: Sequence[float] = (), **figures: Any) -> Tally:
    """Returns a tally in which every latency is that of an answered request."""
    return Tally(**{"num_answered": len(e2e_s), "num_failed": failed, "e2e_s": histogram(e2e_s), **figures})


def release_traffic(*tallies: Tally, release_id: str = "rel_1") -> ReleaseTraffic:
    """Returns traffic with one window of a second for each tally."""
    windows = [
        TrafficWindow(
            release_id=release_id, began_at=BEGAN_AT + timedelta(seconds=at), ended_at=BEGAN_AT + timedelta(seconds=at + 1), tally=one
        )
        for at, one in enumerate(tallies)
    ]
    return ReleaseTraffic(release_id=release_id, windows=windows)


def pair_tally(disagreements: Sequence[float], divergences: Sequence[float], *, failed: int = 0) -> PairTally:
    """Returns the tally of compared pairs and of failed ones."""
    return PairTally(
        num_pairs=len(disagreements) + failed,
        num_failed=failed,
        disagreement_sum=sum(disagreements),
        disagreement_square_sum=sum(value**2 for value in disagreements),
        divergence_sum=sum(divergences),
        divergence_square_sum=sum(value**2 for value in divergences),
    )
