"""How probable a model finds answers: now, and as the model that it was trained from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantry_worker.child.training.log_loss import collate, log_losses
from quantry_worker.child.training.samples import IGNORED, Sample


def answer_log_probs(trainer: Any, model: Any, sequences: Sequence[tuple[list[int], list[int]]]) -> NDArray[np.float64]:
    """Returns the log-probability of each answer after its prompt in nats, shape [len(sequences)]; sequences are pairs of ids."""
    samples = [Sample(prompt + answer, [IGNORED] * len(prompt) + answer) for prompt, answer in sequences]
    pad_id, size = trainer.processing_class.pad_token_id, trainer.args.per_device_eval_batch_size
    device = next(model.parameters()).device
    found: list[float] = []
    with _evaluating(model), torch.no_grad(), trainer.accelerator.autocast():
        for begin in range(0, len(samples), size):
            batch = {name: tensor.to(device) for name, tensor in collate(samples[begin : begin + size], pad_id).items()}
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
            found += log_losses(logits, batch["labels"])
    return -np.asarray(found, dtype=np.float64)


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


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
