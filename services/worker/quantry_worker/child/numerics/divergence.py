"""How far a model's next-token distribution Q is from its reference's P. B, S, V as in perplexity.

KL(P || Q) = sum over v of P(v) (ln P(v) - ln Q(v)), in nats (Kullback and Leibler 1951).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def kl_nats(log_p: torch.Tensor, log_q: torch.Tensor) -> NDArray[np.float64]:
    """Returns KL(P || Q) of every scored token in nats, shape [B, S]; both arguments are log-probabilities [B, S, V].

    A token that P rules out (probability 0 in float32) adds nothing, whatever Q makes of it.
    """
    p = log_p.exp()
    kl = torch.where(p > 0, p * (log_p - log_q), 0.0).sum(dim=-1)
    return np.asarray(kl.double().numpy(), dtype=np.float64)


def same_top1(log_p: torch.Tensor, log_q: torch.Tensor) -> NDArray[np.bool_]:
    """Tells for every scored token whether both models find the same token most likely, shape [B, S]."""
    same = log_p.argmax(dim=-1) == log_q.argmax(dim=-1)
    return np.asarray(same.numpy(), dtype=np.bool_)
