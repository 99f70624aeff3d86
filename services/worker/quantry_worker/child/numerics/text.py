"""Token streams into windows: random ones for calibration, consecutive ones for scoring. Pure functions on arrays.

N is a number of windows, T the tokens of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantry_core.errors import InvalidInput

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class TokenStream:
    """One dataset's text as token ids, shape [num_tokens]."""

    ref: str
    tokens: Tokens


def sample_windows(streams: list[TokenStream], *, num_samples: int, length_tokens: int, seed: int) -> Tokens:
    """Returns calibration samples, shape [num_samples, length_tokens], the same for the same arguments.

    Every stream is cut into consecutive windows; each gives samples in proportion to how many it has, drawn without
    repetition. Raises InvalidInput if a text is shorter than one window or all together have too few.
    """
    windows = [_cut(stream, length_tokens) for stream in streams]
    num_windows = [len(one) for one in windows]
    if sum(num_windows) < num_samples:
        raise InvalidInput(
            f"the calibration text is too short: {num_samples} samples of {length_tokens} tokens are asked for, "
            f"{', '.join(stream.ref for stream in streams)} hold {sum(num_windows)}; ask for fewer or shorter samples, or add text"
        )
    generator = np.random.default_rng(seed)
    chosen = [
        one[generator.choice(len(one), size=quota, replace=False)]
        for one, quota in zip(windows, _quotas(num_windows, num_samples), strict=True)
    ]
    samples = np.concatenate(chosen)
    # Mixed, so that a batch is no single dataset.
    return samples[generator.permutation(num_samples)]


def scoring_windows(stream: TokenStream, *, window_tokens: int, max_windows: int | None) -> Tokens:
    """Returns the stream cut into consecutive windows without overlap, shape [N, window_tokens]; a shorter tail is left out.

    Raises InvalidInput if the text is shorter than one window.
    """
    return _cut(stream, window_tokens)[:max_windows]


def check_length(length_tokens: int, config: Mapping[str, Any], *, field: str) -> None:
    """Raises InvalidInput if windows are longer than the context that config.json states; without one nothing is checked."""
    context_tokens = config.get("max_position_embeddings")
    if isinstance(context_tokens, int) and length_tokens > context_tokens:
        raise InvalidInput(f"{field} is {length_tokens}, but the model's context is {context_tokens} tokens")


def _cut(stream: TokenStream, length_tokens: int) -> Tokens:
    num_windows = len(stream.tokens) // length_tokens
    if num_windows == 0:
        raise InvalidInput(f"dataset {stream.ref} is too short: it has {len(stream.tokens)} tokens, one window needs {length_tokens}")
    return stream.tokens[: num_windows * length_tokens].reshape(num_windows, length_tokens)


def _quotas(num_windows: list[int], num_samples: int) -> list[int]:
    """Returns how many samples each stream gives: proportional shares, rounded by largest remainder."""
    total = sum(num_windows)
    quotas = [num_samples * count // total for count in num_windows]
    remainders = [num_samples * count % total for count in num_windows]
    by_remainder = sorted(range(len(num_windows)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: num_samples - sum(quotas)]:
        quotas[index] += 1
    return quotas
