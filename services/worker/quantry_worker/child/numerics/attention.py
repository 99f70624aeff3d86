"""How alike two models look back: their attention maps, layer by layer.

A map is a row of weights for every head and position, each row a distribution over the positions up to its own. B, H and T
are batch, heads and tokens.
"""

from __future__ import annotations

import math

import torch

FLOAT32_BYTES = 4
MAX_MAPS_BYTES = 64 * 1024 * 1024


def attention_tokens(num_layers: int, num_heads: int, window_tokens: int) -> int:
    """Returns how many tokens of a window may be looked at so that one model's float32 maps of all layers stay within 64 MiB."""
    longest = math.isqrt(MAX_MAPS_BYTES // (num_layers * num_heads * FLOAT32_BYTES))
    return max(2, min(window_tokens, longest))


def cosine_similarity(first: torch.Tensor, second: torch.Tensor) -> float:
    """Returns the mean cosine of the angle between rows of two maps of shape [B, H, T, T]: 1 where both look at the same.

    The first position sees only itself and is left out.
    """
    return float(torch.nn.functional.cosine_similarity(first[:, :, 1:].double(), second[:, :, 1:].double(), dim=-1).mean())


def jensen_shannon_nats(first: torch.Tensor, second: torch.Tensor) -> float:
    """Returns the mean Jensen-Shannon divergence of the rows of two maps in nats: 0 to ln 2, the same both ways (Lin 1991)."""
    p, q = first[:, :, 1:].double(), second[:, :, 1:].double()
    middle = (p + q) / 2
    # xlogy makes 0 ln 0 zero: what lies after a position has weight 0 in all three.
    parts = [torch.xlogy(one, one) - torch.xlogy(one, middle) for one in (p, q)]
    return float(torch.stack(parts).sum(dim=-1).mean())
