"""The log-loss of what is learned of samples, and the batches that it is measured on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from quantry_worker.child.training.samples import IGNORED, Sample


def collate(samples: Sequence[Sample], pad_id: int) -> dict[str, torch.Tensor]:
    """Returns a batch of samples padded on the right, int64 [B, T] each: input_ids, labels and attention_mask."""
    length = max(len(one.input_ids) for one in samples)
    pads = [length - len(one.input_ids) for one in samples]
    return {
        "input_ids": torch.tensor([one.input_ids + [pad_id] * count for one, count in zip(samples, pads, strict=True)]),
        "labels": torch.tensor([one.labels + [IGNORED] * count for one, count in zip(samples, pads, strict=True)]),
        "attention_mask": torch.tensor([[1] * len(one.input_ids) + [0] * count for one, count in zip(samples, pads, strict=True)]),
    }


def log_losses(logits: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Returns the log-loss of each sample in nats, summed over its labelled tokens; logits are [B, T, V], labels [B, T].

    A token is predicted from those before it: nothing is said of the first one. Only logits of labelled tokens become float32.
    """
    sums = []
    for row, expected in zip(logits[:, :-1], labels[:, 1:].to(logits.device), strict=True):
        is_learned = expected != IGNORED
        losses = torch.nn.functional.cross_entropy(row[is_learned].float(), expected[is_learned], reduction="none")
        sums.append(losses.double().sum())
    found: list[float] = torch.stack(sums).tolist()
    return found
