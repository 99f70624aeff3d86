"""How probable a model finds answers: now, and as the model that it was trained from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def answer_log_probs(trainer: Any, model: Any, sequences: Sequence[tuple[list[int], list[int]]]) -> NDArray[np.float64]:
    """Returns the log-probability of each answer after its prompt in nats, shape [len(sequences)]; sequences are pairs of ids."""
    found: list[float] = []
    size = trainer.args.per_device_eval_batch_size
    with _evaluating(model), torch.no_grad(), trainer.accelerator.autocast():
        for begin in range(0, len(sequences), size):
            found += _batch(model, sequences[begin : begin + size], trainer.processing_class.pad_token_id)
    return np.asarray(found, dtype=np.float64)


def reference_log_probs(trainer: Any, sequences: Sequence[tuple[list[int], list[int]]]) -> NDArray[np.float64] | None:
    """Returns what the model that training began with says: the base without its adapter, or the copy that the trainer keeps.

    None where there is neither.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            return answer_log_probs(trainer, model, sequences)
    reference = getattr(trainer, "ref_model", None)
    return None if reference is None else answer_log_probs(trainer, reference, sequences)


def _batch(model: Any, sequences: Sequence[tuple[list[int], list[int]]], pad_id: int) -> Iterator[float]:
    """Yields the summed log-probabilities of each answer; sequences are padded at their end."""
    device = next(model.parameters()).device
    longest = max(len(prompt) + len(answer) for prompt, answer in sequences)
    # Shape [B, T].
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.int64, device=device)
    mask = torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(sequences):
        length = len(prompt) + len(answer)
        ids[row, :length] = torch.tensor(prompt + answer, device=device)
        mask[row, :length] = 1
    # Shape [B, T, V].
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    for row, (prompt, answer) in enumerate(sequences):
        # A token is predicted from those before it: nothing is said of the first one of all.
        begin, end = max(1, len(prompt)), len(prompt) + len(answer)
        predicted = torch.log_softmax(logits[row, begin - 1 : end - 1].float(), dim=-1)
        yield float(predicted.gather(1, ids[row, begin:end, None]).double().sum())


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
