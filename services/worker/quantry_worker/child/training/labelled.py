"""Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv:2402.01306), by TRL's trainer on our own samples.

Answers are good or bad, each for itself. A pair of preferences is taken as one good and one bad answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.jobs.specs.finetune import KtoMethod
from quantry_core.rows import Row
from quantry_worker.child.training.answers import Encoded, Part, encode, fitting, rows_of
from quantry_worker.child.training.log_probs import answer_log_probs, reference_log_probs
from quantry_worker.child.training.order import HeldOutScores, TrainingOrder
from quantry_worker.child.training.others import others_of_batches
from quantry_worker.child.training.pairs import win_rate
from quantry_worker.child.training.references import frozen_reference, without_copied_adapter
from quantry_worker.child.training.writing import Writer

SIGNED = "signed_log_prob_nats"
"""What the scores of labelled answers are called: the log-probability of a good answer, that of a bad one with its sign turned."""


class _Trainer(KTOTrainer):
    """TRL's trainer, given samples that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def build(order: TrainingOrder) -> Any:
    """Returns the trainer; its reference is the base with the adapter off, a frozen copy where all weights are trained.

    Raises InvalidInput for rows without labels, and labels of one kind only.
    """
    method = order.spec.method
    if not isinstance(method, KtoMethod):
        raise ValueError(f"this module trains by kto, not by {method.type}")
    learned = answers_of(order, Part.TRAIN)
    if len({one.label for one in learned}) < 2:
        raise InvalidInput(f"dataset {order.dataset_refs[0]}: all answers have one label; kto needs good and bad ones")
    trainer = _Trainer(
        model=order.model,
        ref_model=frozen_reference(order.model),
        args=KTOConfig(
            **order.arguments,
            beta=method.beta,
            desirable_weight=method.desirable_weight,
            undesirable_weight=method.undesirable_weight,
            max_length=None,
        ),
        train_dataset=_dataset(_compared(order, learned)),
        # In the file's order, so that a pair falls into one batch: the margin that the trainer logs is a mean of batches.
        eval_dataset=_dataset(sorted(_compared(order, answers_of(order, Part.VALIDATION)), key=lambda pair: pair[0].number)),
        processing_class=order.tokenizer,
        callbacks=order.callbacks,
    )
    return without_copied_adapter(trainer)


def score(order: TrainingOrder, trainer: Any) -> HeldOutScores:
    """Returns the log-probability of each held-out answer in nats, its sign turned where the answer is bad: larger is better.

    Figures, by the implicit reward beta (log p - log p of the reference): ``reward_win_rate``, the share of answers whose reward
    has the sign of their label, none counted half, and ``reward_margin``, the mean of good ones less that of bad ones, where there
    are both.
    """
    held_out = answers_of(order, Part.VALIDATION)
    sequences = [(one.prompt, one.answers[0]) for one in held_out]
    is_good = np.asarray([one.label for one in held_out])
    signs = np.where(is_good, 1.0, -1.0)
    now = answer_log_probs(trainer, trainer.model, sequences)
    before = reference_log_probs(trainer, sequences)
    figures: dict[str, float] = {}
    if before is not None:
        rewards = trainer.beta * (now - before)
        figures["reward_win_rate"] = win_rate(signs * rewards)
        if is_good.any() and not is_good.all():
            figures["reward_margin"] = float(rewards[is_good].mean() - rewards[~is_good].mean())
    return HeldOutScores(SIGNED, signs * now, np.ones(len(now)), figures)


def answers_of(order: TrainingOrder, part: Part) -> list[Encoded]:
    """Returns the labelled answers of an order's rows, by its overlong policy; raises InvalidInput for others, and as ``fitting`` does."""
    rows = rows_of(order, part)
    writer = Writer(order.tokenizer, rows.dataset_ref)
    return fitting(order, rows, (one for number, row in rows.numbered for one in _encoded(writer, number, row)))


def _encoded(writer: Writer, number: int, row: Row) -> list[Encoded]:
    if row.kind is DatasetKind.LABELLED:
        return [encode(writer, number, row.messages, (row.completion,), label=bool(row.label))]
    if row.kind is DatasetKind.PREFERENCES:
        return [
            encode(writer, number, row.messages, (answer,), label=is_good)
            for answer, is_good in ((row.chosen, True), (row.rejected, False))
        ]
    raise InvalidInput(
        f"dataset {writer.dataset_ref} holds {row.kind}; kto learns from {DatasetKind.LABELLED} or {DatasetKind.PREFERENCES}"
    )


def _compared(order: TrainingOrder, answers: list[Encoded]) -> list[tuple[Encoded, Encoded]]:
    """Returns answers in a drawn order, each with another one, to a prompt not its own.

    By those the divergence from the reference is estimated (section 4.1 of the paper). Drawn, they are good and bad ones.
    """
    shuffled = [answers[index] for index in np.random.default_rng(order.seed).permutation(len(answers))]
    places: dict[tuple[int, ...], int] = {}
    prompts = [places.setdefault(tuple(one.prompt), len(places)) for one in shuffled]
    others = others_of_batches(prompts, order.spec.hyperparameters.batch_size)
    return [(one, shuffled[other]) for one, other in zip(shuffled, others, strict=True)]


def _dataset(compared: list[tuple[Encoded, Encoded]]) -> Dataset:
    """Returns the columns that the trainer's collator takes; the trainer takes the rows as they lie."""
    return Dataset.from_list(
        [
            {
                "prompt_ids": one.prompt,
                "completion_ids": one.answers[0],
                "KL_completion_ids": other.answers[0],
                "label": one.label,
            }
            for one, other in compared
        ]
    )
