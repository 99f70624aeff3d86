"""What an engine says greedily after the probe, compared with the log-probabilities of a model that computes the same weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Answer:
    """An engine's answer."""

    token_ids: list[int]
    """What it says after the prompt, greedily."""
    logprobs: list[float]
    """Of those tokens, nats."""
    prompt_logprobs: list[float] = field(default_factory=list)
    """Of each token of the prompt but the first, where the engine tells them."""


def compare_answers(
    engine: str, answer: Answer, expected: torch.Tensor, prompt: list[int], tolerance_nats: float
) -> tuple[list[str], dict[str, Any]]:
    """Returns what is wrong with an engine's answer, and how far it is from what is expected.

    ``expected``, float32 [T + A - 1, V], are log-probabilities of the next token after each of prompt (T) and answer (A), but the
    last. Two things must not exceed the tolerance: the mean absolute difference of log-probabilities, and how much likelier
    another token is expected to be than the one the engine said.
    """
    said = answer.token_ids
    if not said or len(said) != len(answer.logprobs):
        return [f"{engine} says {len(said)} tokens and {len(answer.logprobs)} logprobs"], {}
    told = [*answer.prompt_logprobs, *answer.logprobs]
    tokens = torch.tensor([*prompt[1:], *said])
    ours = np.asarray(expected.gather(1, tokens[:, None])[-len(told) :, 0].numpy(), dtype=np.float64)
    errors = np.abs(ours - np.asarray(told, dtype=np.float64))
    margins = np.asarray(expected[-len(said) :].max(dim=-1).values.numpy(), dtype=np.float64) - ours[-len(said) :]
    error_nats = float(errors.mean())
    metrics = {
        "logprob_error_mean_nats": error_nats,
        "logprob_error_max_nats": float(errors.max()),
        "num_greedy_tokens": len(said),
        "num_same_tokens": int((margins == 0).sum()),
        "tolerance_nats": tolerance_nats,
    }
    problems = []
    # Written so that NaN is found too.
    if not error_nats <= tolerance_nats:
        problems.append(
            f"{engine}'s logprobs are {error_nats:.3g} nats from the reader's on average, at most {tolerance_nats} are rounding"
        )
    if not margins.max() <= tolerance_nats:
        where = int(margins.argmax())
        problems.append(f"{engine} says another greedy token at {where}, which the reader finds {margins[where]:.2f} nats less likely")
    return problems, metrics
