"""What a trainer is built from, and what its method says of held-out rows: the same for every method."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantry_core.jobs.specs.finetune import FinetuneSpec
from quantry_core.rows import Row


@dataclass
class Counts:
    """What became of rows that are trained or measured on. A method's module counts while it makes samples of them."""

    num_samples: int = 0
    """Sequences of text, answers, or pairs."""
    num_tokens: int = 0
    """Tokens of one epoch that the model sees, padding not counted."""
    num_learned_tokens: int = 0
    """Those of them that the loss is of."""
    num_truncated: int = 0
    num_dropped: int = 0

    def begin_again(self) -> None:
        """Forgets what was counted: what is measured on is read again at each measurement of its own."""
        for name in asdict(self):
            setattr(self, name, 0)

    def as_json(self) -> dict[str, int]:
        """Returns them by name."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingOrder:
    """One training: what is learned from, by which model, and the arguments that all trainers share."""

    spec: FinetuneSpec
    model: Any
    """The model to train, a PeftModel where the spec has an adapter; in the compute dtype, on the device it is trained on."""
    tokenizer: Any
    """With a pad token."""
    train: list[Row]
    """In the order of the file. Plain text is one row of kind text."""
    validation: list[Row]
    """What is measured and never trained on; at most ``spec.validation.max_rows``."""
    arguments: dict[str, Any]
    """Fields of transformers' TrainingArguments; a method's own configuration takes them and adds its own."""
    callbacks: list[Any]
    """Given to the trainer as they are."""
    seed: int
    dataset_refs: tuple[str, str]
    """What rows of ``train`` and ``validation`` are called in errors: name@number."""
    row_numbers: tuple[list[int], list[int]]
    """The line of each row of ``train`` and ``validation`` in its file, from 1: what errors name."""
    counts: Counts = field(default_factory=Counts)
    """Of what is trained on."""
    validation_counts: Counts = field(default_factory=Counts)
    """Of what is measured on."""


@dataclass(frozen=True)
class HeldOutScores:
    """What a model makes of the held-out rows: one sum and one count for each sample, so that two models can be compared in pairs.

    The mean is sum(sums) / sum(counts).
    """

    name: str
    """What the mean is, as metrics name it: ``nll_mean``, ``reward_margin``, ``reward_mean``."""
    sums: NDArray[np.float64]
    """Shape [num_samples]: the log-loss of a sample's answers in nats, the margin of a pair, the reward of an answer."""
    counts: NDArray[np.float64]
    """Shape [num_samples]: tokens that a sum is over; ones where it is over none."""
    figures: dict[str, float] = field(default_factory=dict)
    """Further figures of the whole, by name: ``win_rate``."""

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.counts.sum())
