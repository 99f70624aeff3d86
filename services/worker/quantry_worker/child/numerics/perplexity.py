"""Perplexity: exp of the mean negative log-likelihood of each next token, in nats.

B is a batch of windows, T the tokens of one, V the vocabulary. A window predicts its tokens 1 .. T-1; nothing is carried
from one window to the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

MAX_LOGITS_BYTES = 32 * 1024 * 1024
FLOAT32_BYTES = 4


def batch_windows(window_tokens: int, vocabulary: int) -> int:
    """Returns how many windows one batch may hold so that its float32 logits stay within 32 MiB; at least one."""
    return max(1, MAX_LOGITS_BYTES // (window_tokens * vocabulary * FLOAT32_BYTES))


def next_token_log_probs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Returns the model's log-probabilities (float32, natural log) of every next token, shape [B, T-1, V], of ids [B, T]."""
    logits = model(input_ids=ids, use_cache=False).logits
    return torch.log_softmax(logits[:, :-1].float(), dim=-1)


def token_nll(log_probs: torch.Tensor, ids: torch.Tensor) -> NDArray[np.float64]:
    """Returns the negative log-likelihood (nats) of each token that was really next, shape [B * (T-1)].

    ``log_probs`` is [B, T-1, V], ``ids`` [B, T].
    """
    targets = ids[:, 1:].unsqueeze(-1)
    nll = -log_probs.gather(-1, targets).squeeze(-1)
    return np.asarray(nll.flatten().double().numpy(), dtype=np.float64)


class NllTally:
    """Sums negative log-likelihoods in float64."""

    def __init__(self) -> None:
        self._sum_nats = 0.0
        self.num_tokens = 0

    def add(self, nll: NDArray[np.float64]) -> None:
        self._sum_nats += float(nll.sum())
        self.num_tokens += nll.size

    @property
    def mean_nats(self) -> float:
        """The mean per predicted token; NaN before the first."""
        return self._sum_nats / self.num_tokens if self.num_tokens else float("nan")

    @property
    def perplexity(self) -> float:
        """exp of the mean; infinite where that is more than a float holds."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.mean_nats))
