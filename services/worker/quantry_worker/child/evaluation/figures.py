"""From the scores of single tokens to the figures of a corpus. Pure numpy; names and units as in quantry_core.metrics.

N is the number of scored tokens, in the order of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantry_worker.child.numerics.bootstrap import CONFIDENCE, mean_interval

Figures = dict[str, float | int | None]


@dataclass(frozen=True)
class ReferenceScores:
    """What the reference made of the same tokens."""

    nll: NDArray[np.float64]
    """Negative log-likelihood of each token that was really next, nats, shape [N]."""
    kl: NDArray[np.float64]
    """KL(reference || subject) at each, nats, shape [N]."""
    same_top1: NDArray[np.bool_]
    """Whether both find the same token likeliest, shape [N]."""


@dataclass(frozen=True)
class TokenScores:
    """Every scored token of a corpus."""

    nll: NDArray[np.float64]
    """Negative log-likelihood of each token that was really next, nats, shape [N]."""
    window: NDArray[np.int64]
    """Which window each was scored in, from 0, shape [N]."""
    reference: ReferenceScores | None = None

    @property
    def num_windows(self) -> int:
        return int(self.window[-1]) + 1


def figures(scores: TokenScores, *, seed: int) -> Figures:
    """Returns the figures of one corpus, those against a reference only where there is one. ``seed`` is the bootstrap's.

    An interval that cannot be stated, for too few windows, is left out.
    """
    reference = scores.reference
    found: Figures = {
        "perplexity": _exp(scores.nll.mean()),
        "nll_mean": float(scores.nll.mean()),
        "num_tokens": scores.nll.size,
        "num_windows": scores.num_windows,
    }
    if reference is None:
        return found
    error = np.abs(scores.nll - reference.nll)
    return (
        found
        | {
            "reference_perplexity": _exp(reference.nll.mean()),
            "kl_mean_nats": float(reference.kl.mean()),
            "kl_p99_nats": float(np.percentile(reference.kl, 99)),
            "kl_p999_nats": float(np.percentile(reference.kl, 99.9)),
            "kl_max_nats": float(reference.kl.max()),
            "top1_agreement": float(reference.same_top1.mean()),
            "logprob_error_mean_nats": float(error.mean()),
            "logprob_error_p99_nats": float(np.percentile(error, 99)),
        }
        | _change(scores, reference, seed)
    )


def _change(scores: TokenScores, reference: ReferenceScores, seed: int) -> Figures:
    """Returns the change in log-loss with its interval, and the same as a ratio of perplexities: exp of it."""
    change = scores.nll - reference.nll
    found: Figures = {"nll_increase_nats": float(change.mean()), "perplexity_ratio": _exp(change.mean())}
    sums = np.bincount(scores.window, weights=change).astype(np.float64)
    counts = np.bincount(scores.window).astype(np.float64)
    interval = mean_interval(sums, counts, seed=seed) if np.isfinite(sums).all() else None
    if interval is None:
        return found
    return found | {
        "nll_increase_low_nats": interval.low,
        "nll_increase_high_nats": interval.high,
        "perplexity_ratio_low": _exp(interval.low),
        "perplexity_ratio_high": _exp(interval.high),
        "confidence": CONFIDENCE,
        "bootstrap_blocks": interval.num_blocks,
        "bootstrap_resamples": interval.num_resamples,
    }


def _exp(value: float) -> float:
    """Returns exp of it; infinite where that is more than a float holds."""
    with np.errstate(over="ignore"):
        return float(np.exp(value))
