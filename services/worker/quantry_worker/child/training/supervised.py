"""Supervised training: text, answers to prompts, or the assistant's turns of chats, by TRL's SFTTrainer on samples made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.jobs.specs.finetune import SupervisedMethod
from quantry_worker.child.numerics.model import vocabulary_size
from quantry_worker.child.training.adapters import keep_float32
from quantry_worker.child.training.log_loss import collate, log_losses
from quantry_worker.child.training.order import Counts, HeldOutScores, TrainingOrder
from quantry_worker.child.training.packing import check_isolation, collate_packed, pack
from quantry_worker.child.training.samples import Sample, SampleOrder, make_samples

KINDS = frozenset({DatasetKind.TEXT, DatasetKind.ROWS, DatasetKind.PROMPTS, DatasetKind.CHAT})

TRAINED, HELD_OUT = "trained", "held_out"
"""The only columns of the trainer's datasets: places in the lists that ``SampleCollator`` has."""


@dataclass(frozen=True)
class SampleCollator:
    """Makes batches of samples by their places."""

    sequences: list[list[Sample]]
    """What is trained on: one sample each, or several where they are packed."""
    validation: list[Sample]
    pad_id: int
    is_packed: bool

    def __call__(self, items: Sequence[Mapping[str, int]]) -> dict[str, torch.Tensor]:
        if HELD_OUT in items[0]:
            return collate([self.validation[item[HELD_OUT]] for item in items], self.pad_id)
        chosen = [self.sequences[item[TRAINED]] for item in items]
        return collate_packed(chosen, self.pad_id) if self.is_packed else collate([sample for (sample,) in chosen], self.pad_id)


def build(order: TrainingOrder) -> SFTTrainer:
    """Returns the trainer of the order's samples, packed where that is asked for.

    Raises InvalidInput for rows that are no text, prompts or chats, for what ``make_samples`` refuses, where no sample is left,
    and for packing by a model that lets samples see each other.
    """
    method = _method(order)
    train = _samples(order, 0, order.counts, max_samples=None)
    validation = _samples(order, 1, order.validation_counts, max_samples=order.spec.validation.max_rows)
    pad_id = int(order.tokenizer.pad_token_id)
    sequences = [[sample] for sample in train]
    if method.packing:
        check_isolation(order.model, vocabulary_size(order.model))
        sequences = pack(train, order.spec.hyperparameters.sequence_tokens)
    arguments = SFTConfig(
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        **order.arguments,
    )
    trainer = SFTTrainer(
        model=order.model,
        args=arguments,
        processing_class=order.tokenizer,
        train_dataset=Dataset.from_dict({TRAINED: list(range(len(sequences)))}),
        eval_dataset=Dataset.from_dict({HELD_OUT: list(range(len(validation)))}),
        data_collator=SampleCollator(sequences, validation, pad_id, is_packed=method.packing),
        callbacks=order.callbacks,
    )
    # It has rounded an adapter beside packed weights to bfloat16.
    keep_float32(trainer.model)
    return trainer


def score(order: TrainingOrder, trainer: SFTTrainer) -> HeldOutScores:
    """Returns the log-loss of what is learned of each held-out sample, nats, as the model is now."""
    samples: list[Sample] = trainer.data_collator.validation
    size = order.spec.hyperparameters.batch_size
    sums: list[float] = []
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for begin in range(0, len(samples), size):
            batch = collate(samples[begin : begin + size], int(order.tokenizer.pad_token_id))
            ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
            sums += log_losses(model(input_ids=ids, attention_mask=mask, use_cache=False).logits, batch["labels"])
    model.train(was_training)
    counts = np.asarray([one.num_learned for one in samples], dtype=np.float64)
    return HeldOutScores("nll_mean", np.asarray(sums, dtype=np.float64), counts)


def _method(order: TrainingOrder) -> SupervisedMethod:
    if not isinstance(order.spec.method, SupervisedMethod):
        raise TypeError(f"method {order.spec.method.type} is not supervised")
    return order.spec.method


def _samples(order: TrainingOrder, part: int, counts: Counts, *, max_samples: int | None) -> list[Sample]:
    rows, numbers = (order.train, order.validation)[part], order.row_numbers[part]
    ref = order.dataset_refs[part]
    other = next((row.kind for row in rows if row.kind not in KINDS), None)
    if other is not None:
        raise InvalidInput(f"dataset {ref} holds {other}; supervised training learns from {', '.join(sorted(KINDS))}")
    making = SampleOrder(
        tokenizer=order.tokenizer,
        dataset_ref=ref,
        max_tokens=order.spec.hyperparameters.sequence_tokens,
        overlong=order.spec.overlong,
        completion_only=_method(order).completion_only,
        max_samples=max_samples,
    )
    made = make_samples(making, list(zip(numbers, rows, strict=True)), counts)
    if not made:
        raise InvalidInput(f"dataset {ref}: no sample is left to {('learn from', 'measure')[part]}; {counts.num_dropped} were dropped")
    return made
