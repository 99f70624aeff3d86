"""What models make of the same held-out samples, and how they compare. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantry_worker.child.numerics.bootstrap import mean_interval


@dataclass(frozen=True)
class Losses:
    """What a model makes of the samples, in their order: the log-loss of each one's answers in nats, and their tokens. Shape [N]."""

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]

    @property
    def mean_nats(self) -> float:
        return float(self.sums.sum() / self.counts.sum())


def change(ours: Losses, theirs: Losses, *, seed: int) -> dict[str, float | None]:
    """Returns by how much our loss is above theirs in nats a token, with its 95% interval by paired bootstrap over samples.

    The interval is None where it cannot be stated, for fewer than five samples.
    """
    interval = mean_interval(ours.sums - theirs.sums, ours.counts, seed=seed)
    return {
        "nll_increase_nats": ours.mean_nats - theirs.mean_nats,
        "nll_increase_low_nats": None if interval is None else interval.low,
        "nll_increase_high_nats": None if interval is None else interval.high,
    }
