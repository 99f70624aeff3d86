"""What is said of the data of a training when it begins."""

from __future__ import annotations

from quantry_core.datasets import DatasetKind
from quantry_core.jobs import FinetuneSpec
from quantry_core.rows import Message, Role, Row
from quantry_worker.child.training.counted import counted, counted_text
from quantry_worker.child.training.order import Counts, TrainingOrder

ASKED = Row(DatasetKind.PROMPTS, messages=(Message(Role.USER, "Well?"), Message(Role.ASSISTANT, "Yes.")))


def order(train: list[Row], validation: list[Row], counts: Counts, validation_counts: Counts) -> TrainingOrder:
    return TrainingOrder(
        spec=FinetuneSpec(model="bard@1", training_file="lessons"),
        model=None,
        tokenizer=None,
        train=train,
        validation=validation,
        arguments={},
        callbacks=[],
        seed=0,
        dataset_refs=("lessons@1", "exam@2"),
        row_numbers=([*range(len(train))], [*range(len(validation))]),
        counts=counts,
        validation_counts=validation_counts,
    )


LEARNED, MEASURED = Counts(1198, 52000, 31000, 4, 2), Counts(29, 1300, 700, 0, 1)


def test_rows_samples_and_tokens_are_said_for_both_parts() -> None:
    assert counted_text(order([ASKED] * 1200, [ASKED] * 30, LEARNED, MEASURED)) == (
        "Learns from lessons@1: 1,200 rows, 1,198 samples, 52,000 tokens, 31,000 of them learned, 4 truncated, 2 dropped. "
        "Is measured on exam@2: 30 rows, 29 samples, 1,300 tokens, 700 of them learned, 0 truncated, 1 dropped."
    )
    text, prompts = Row(DatasetKind.TEXT, text="Once"), Counts(20, 400, 0, 0, 0)
    assert counted_text(order([text], [ASKED] * 20, LEARNED, prompts)) == (
        "Learns from lessons@1: 1,198 samples, 52,000 tokens, 31,000 of them learned, 4 truncated, 2 dropped. "
        "Is measured on exam@2: 20 rows, 20 samples, 400 tokens of prompts, 0 truncated, 0 dropped."
    )


def test_the_same_counts_are_metrics() -> None:
    assert counted(order([ASKED] * 1200, [ASKED] * 30, LEARNED, MEASURED)) == {
        "num_rows": 1200,
        "num_samples": 1198,
        "num_tokens": 52000,
        "num_learned_tokens": 31000,
        "num_truncated": 4,
        "num_dropped": 2,
        "num_validation_rows": 30,
        "num_validation_samples": 29,
        "num_validation_tokens": 1300,
        "num_validation_learned_tokens": 700,
        "num_validation_truncated": 0,
        "num_validation_dropped": 1,
    }
