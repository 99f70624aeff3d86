"""Short samples share a sequence without seeing each other.

Positions begin anew with each sample, no attention mask is given, and transformers' mask functions then keep what has one run
of positions to itself. Whether a model does so is asked of the model, not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from quantry_core.errors import InvalidInput
from quantry_worker.child.training.samples import IGNORED, Sample

PROBE_TOKENS = 8
RELATIVE_TOLERANCE = 0.02
"""Of a probe's logits: rounding of bfloat16 stays far below, a sample that sees another does not."""


def pack(samples: Sequence[Sample], max_tokens: int) -> list[list[Sample]]:
    """Returns samples in sequences of at most ``max_tokens``: best fit, longest first; the order of the sequences is of their first.

    Best-fit decreasing: Johnson et al. 1974, SIAM J. Comput. 3(4). Raises ValueError for a sample that is longer.
    """
    room: dict[int, list[int]] = {}
    packed: list[list[int]] = []
    for index in sorted(range(len(samples)), key=lambda one: -len(samples[one].input_ids)):
        size = len(samples[index].input_ids)
        if size > max_tokens:
            raise ValueError(f"a sample of {size} tokens does not fit a sequence of {max_tokens}")
        fitting = min((left for left, bins in room.items() if left >= size and bins), default=None)
        if fitting is None:
            packed.append([index])
            place, left = len(packed) - 1, max_tokens - size
        else:
            place, left = room[fitting].pop(0), fitting - size
            packed[place].append(index)
        room.setdefault(left, []).append(place)
    return [[samples[index] for index in sorted(members)] for members in sorted(packed, key=min)]


def collate_packed(sequences: Sequence[Sequence[Sample]], pad_id: int) -> dict[str, torch.Tensor]:
    """Returns a batch, int64 [B, T] each: input_ids, labels, and position_ids that begin anew with each sample and each pad token.

    The first token of a sample has no label: what stands before it is another sample.
    """
    length = max(sum(len(one.input_ids) for one in sequence) for sequence in sequences)
    ids, labels, positions = [], [], []
    for sequence in sequences:
        num_pads = length - sum(len(one.input_ids) for one in sequence)
        ids.append([token for one in sequence for token in one.input_ids] + [pad_id] * num_pads)
        labels.append([label for one in sequence for label in (IGNORED, *one.labels[1:])] + [IGNORED] * num_pads)
        positions.append([place for one in sequence for place in range(len(one.input_ids))] + [0] * num_pads)
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "position_ids": torch.tensor(positions)}


def check_isolation(model: Any, vocabulary: int) -> None:
    """Raises InvalidInput if a sample in a packed sequence gives other logits than it gives alone."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(vocabulary, (2, PROBE_TOKENS), generator=generator).tolist()
    batch = collate_packed([[Sample(first, first), Sample(second, second)]], pad_id=0)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad():
        together = _logits(model, batch["input_ids"].to(device), batch["position_ids"].to(device))[0, PROBE_TOKENS:]
        alone = _logits(model, torch.tensor([second], device=device), torch.arange(PROBE_TOKENS, device=device)[None])[0]
    model.train(was_training)
    distance = float((together - alone).norm() / alone.norm())
    if not distance <= RELATIVE_TOLERANCE:
        raise InvalidInput(
            f"packing: a {model.config.model_type} model lets samples of one sequence see each other "
            f"(logits differ by {distance:.1%}); leave packing out"
        )


def _logits(model: Any, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    return logits.float()
