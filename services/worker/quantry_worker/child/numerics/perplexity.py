"""Log-likelihood of each next token, in nats; perplexity is exp of its negative mean.

B is a batch of windows, T the tokens of one, S how many of its last tokens are scored, V the vocabulary.
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


def next_token_log_probs(model: Any, ids: torch.Tensor, num_scored: int) -> torch.Tensor:
    """Returns the model's log-probabilities (float32, natural log) of the last S tokens, shape [B, S, V], of ids [B, T], S < T."""
    logits = model(input_ids=ids, use_cache=False).logits
    return torch.log_softmax(logits[:, -num_scored - 1 : -1].float(), dim=-1)


def token_nll(log_probs: torch.Tensor, ids: torch.Tensor) -> NDArray[np.float64]:
    """Returns the negative log-likelihood (nats) of each token that was really next, shape [B, S].

    ``log_probs`` is [B, S, V], ``ids`` [B, T].
    """
    targets = ids[:, -log_probs.shape[1] :].unsqueeze(-1)
    nll = -log_probs.gather(-1, targets).squeeze(-1)
    return np.asarray(nll.double().numpy(), dtype=np.float64)
