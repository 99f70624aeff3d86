"""From the scores of single tokens to the figures of a corpus. Pure numpy; names and units as in quantry_core.metrics.

N is the number of scored tokens, in the order of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantry_worker.child.numerics.bootstrap import CONFIDENCE, Interval, mean_interval

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
        | _change(scores.nll - reference.nll, scores.window, seed)
    )


def figures_beside(subject: TokenScores, other: TokenScores, *, seed: int) -> Figures:
    """Returns how a version does on a corpus beside another one, both scored with one master as their reference.

    The change of the log-loss and that of the divergence from the master are the subject's less the other's, token by token.
    Raises ValueError where one was scored without a reference.
    """
    if subject.reference is None or other.reference is None:
        raise ValueError("both versions are scored with the master as their reference")
    kl, other_kl = subject.reference.kl, other.reference.kl
    found: Figures = {
        "perplexity": _exp(subject.nll.mean()),
        "nll_mean": float(subject.nll.mean()),
        "num_tokens": subject.nll.size,
        "num_windows": subject.num_windows,
        "reference_perplexity": _exp(other.nll.mean()),
        "kl_from_master_nats": float(kl.mean()),
        "reference_kl_from_master_nats": float(other_kl.mean()),
        "kl_increase_nats": float((kl - other_kl).mean()),
    }
    interval = _interval(kl - other_kl, subject.window, seed)
    if interval is not None:
        found |= {"kl_increase_low_nats": interval.low, "kl_increase_high_nats": interval.high}
    return found | _change(subject.nll - other.nll, subject.window, seed)


def _interval(change: NDArray[np.float64], window: NDArray[np.int64], seed: int) -> Interval | None:
    """Returns the interval of the mean of what changed at each token; None where it cannot be stated."""
    sums = np.bincount(window, weights=change).astype(np.float64)
    counts = np.bincount(window).astype(np.float64)
    return mean_interval(sums, counts, seed=seed) if np.isfinite(sums).all() else None


def _change(change: NDArray[np.float64], window: NDArray[np.int64], seed: int) -> Figures:
    """Returns the change in log-loss with its interval, and the same as a ratio of perplexities: exp of it."""
    found: Figures = {"nll_increase_nats": float(change.mean()), "perplexity_ratio": _exp(change.mean())}
    interval = _interval(change, window, seed)
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
