"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290), by TRL's trainer on our own samples."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from quantry_core.jobs.specs.finetune import DpoMethod
from quantry_worker.child.training.answers import Encoded, Part
from quantry_worker.child.training.order import TrainingOrder
from quantry_worker.child.training.pairs import pairs_of, score_pairs
from quantry_worker.child.training.references import frozen_reference, without_copied_adapter

__all__ = ["build", "score"]

score = score_pairs


class _Trainer(DPOTrainer):
    """TRL's trainer, given samples that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def build(order: TrainingOrder) -> Any:
    """Returns the trainer; its reference is the base with the adapter off, a frozen copy where all weights are trained."""
    method = order.spec.method
    if not isinstance(method, DpoMethod):
        raise ValueError(f"this module trains by dpo, not by {method.type}")
    trainer = _Trainer(
        model=order.model,
        ref_model=frozen_reference(order.model),
        # Samples are cut already.
        args=DPOConfig(**order.arguments, beta=method.beta, max_length=None),
        train_dataset=_dataset(pairs_of(order, Part.TRAIN)),
        eval_dataset=_dataset(pairs_of(order, Part.VALIDATION)),
        processing_class=order.tokenizer,
        callbacks=order.callbacks,
    )
    return without_copied_adapter(trainer)


def _dataset(pairs: list[Encoded]) -> Dataset:
    return Dataset.from_list([{"prompt_ids": one.prompt, "chosen_ids": one.answers[0], "rejected_ids": one.answers[1]} for one in pairs])
