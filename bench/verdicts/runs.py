"""Simulated traffic of a candidate and a stable release, as what gateways would have told of it by each look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from quantry_core.histograms import GROWTH, Histogram
from quantry_core.traffic import ReleaseTraffic, Tally, TrafficWindow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MEDIAN_S, SPREAD = 1.2, 0.5
"""Latencies are lognormal: p50 1.2 s, p95 2.7 s, p99 3.8 s."""
FEEDBACK_SHARE, APPROVAL = 0.1, 0.85
_LOG_GROWTH = math.log(GROWTH)


@dataclass(frozen=True)
class Nature:
    """What a release truly is."""

    error_rate: float = 0.01
    slowness: float = 1.0
    """Of every latency, as a factor."""
    approval: float = APPROVAL


@dataclass(frozen=True)
class Sums:
    """What a test by means and variances needs, by look."""

    num: np.ndarray
    num_failed: np.ndarray
    num_timed: np.ndarray
    log_sum: np.ndarray
    log_square_sum: np.ndarray


@dataclass(frozen=True)
class Side:
    """One release's run: everything is cumulative, and by look."""

    sums: Sums
    num_approved: np.ndarray
    num_disapproved: np.ndarray
    buckets: np.ndarray
    """Numbers of the histogram's buckets."""
    counts: np.ndarray
    """Looks x buckets."""

    def traffic(self, look: int) -> ReleaseTraffic:
        """Returns all that was counted by a look, as one window: what is judged are the sums over all windows."""
        row = self.counts[look]
        held = np.flatnonzero(row)
        failed = int(self.sums.num_failed[look])
        tally = Tally(
            num_answered=int(self.sums.num[look]) - failed,
            num_failed=failed,
            num_approved=int(self.num_approved[look]),
            num_disapproved=int(self.num_disapproved[look]),
            e2e_s=Histogram(counts=dict(zip(self.buckets[held].tolist(), row[held].tolist(), strict=True))),
        )
        return ReleaseTraffic(release_id="rel", windows=[TrafficWindow(release_id="rel", began_at=NOW, ended_at=NOW, tally=tally)])


def side(draw: np.random.Generator, nature: Nature, ends: np.ndarray) -> Side:
    """Returns a run of a release; ``ends`` are the numbers of its requests by each look."""
    num = int(ends[-1])
    failed = draw.random(num) < nature.error_rate
    logs = math.log(MEDIAN_S * nature.slowness) + SPREAD * draw.standard_normal(num)
    judged = ~failed & (draw.random(num) < FEEDBACK_SHARE)
    approved = judged & (draw.random(num) < nature.approval)
    buckets = np.ceil(logs / _LOG_GROWTH).astype(np.int64)
    first, size = int(buckets.min()), int(np.ptp(buckets)) + 1
    looks = np.searchsorted(ends, np.arange(num), side="right")
    cells = (looks * size + buckets - first)[~failed]
    counts = np.bincount(cells, minlength=len(ends) * size).reshape(len(ends), size).cumsum(axis=0)

    def by_look(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.concatenate([[0], np.cumsum(values)])[ends])

    sums = Sums(ends, by_look(failed), by_look(~failed), by_look(np.where(failed, 0.0, logs)), by_look(np.where(failed, 0.0, logs**2)))
    return Side(sums, by_look(approved), by_look(judged & ~approved), np.arange(first, first + size), counts)


@dataclass(frozen=True)
class Run:
    """Both releases, looked at together."""

    candidate: Side
    stable: Side

    def __iter__(self) -> Iterator[tuple[ReleaseTraffic, ReleaseTraffic]]:
        for look in range(len(self.candidate.sums.num)):
            yield self.candidate.traffic(look), self.stable.traffic(look)


def run(draw: np.random.Generator, candidate: Nature, stable: Nature, *, ends: np.ndarray, share: float) -> Run:
    """Returns a run in which the candidate has a share of all requests; ``ends`` are the numbers of its own by each look."""
    others = np.round(ends * (1 - share) / share).astype(np.int64)
    return Run(side(draw, candidate, ends), side(draw, stable, others))
