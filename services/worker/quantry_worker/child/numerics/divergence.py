"""How far a model's next-token distribution Q is from its reference's P.

KL(P || Q) = sum over v of P(v) (ln P(v) - ln Q(v)), in nats (Kullback and Leibler 1951). B, T, V as in perplexity.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def kl_nats(log_p: torch.Tensor, log_q: torch.Tensor) -> NDArray[np.float64]:
    """Returns KL(P || Q) of every predicted token in nats, shape [B * T]; both arguments are log-probabilities [B, T, V]."""
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    return np.asarray(kl.flatten().double().numpy(), dtype=np.float64)


def same_top1(log_p: torch.Tensor, log_q: torch.Tensor) -> NDArray[np.bool_]:
    """Tells for every predicted token whether both models find the same token most likely, shape [B * T]."""
    same = log_p.argmax(dim=-1) == log_q.argmax(dim=-1)
    return np.asarray(same.flatten().numpy(), dtype=np.bool_)


class DivergenceTally:
    """Keeps one KL value per token (8 bytes), not the distributions."""

    def __init__(self) -> None:
        self._kl: list[NDArray[np.float64]] = []
        self._num_same = 0

    def add(self, kl: NDArray[np.float64], same: NDArray[np.bool_]) -> None:
        self._kl.append(kl)
        self._num_same += int(same.sum())

    def metrics(self) -> dict[str, float]:
        """Returns mean and 99th percentile of KL in nats, and the share of tokens with the same most likely next token."""
        kl = np.concatenate(self._kl)
        return {
            "kl_mean_nats": float(kl.mean()),
            "kl_p99_nats": float(np.percentile(kl, 99)),
            "top1_agreement": self._num_same / kl.size,
        }
