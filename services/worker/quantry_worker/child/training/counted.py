"""What a training learns from and is measured on, in rows and tokens: said when it begins, and told with its result."""

from __future__ import annotations

from quantry_core.datasets import DatasetKind
from quantry_core.rows import Row
from quantry_worker.child.training.order import Counts, TrainingOrder


def counted(order: TrainingOrder) -> dict[str, int]:
    """Returns the counts of an order whose samples are made, those of what is measured on as ``num_validation_...``."""
    train = {"num_rows": len(order.train)} | order.counts.as_json()
    validation = {"num_rows": len(order.validation)} | order.validation_counts.as_json()
    return train | {name.replace("num_", "num_validation_", 1): count for name, count in validation.items()}


def counted_text(order: TrainingOrder) -> str:
    """Returns the same for people."""
    learned = _text(order.dataset_refs[0], order.train, order.counts)
    measured = _text(order.dataset_refs[1], order.validation, order.validation_counts)
    return f"Learns from {learned}. Is measured on {measured}."


def _text(ref: str, rows: list[Row], counts: Counts) -> str:
    """Of methods that let the model answer itself nothing but prompts is known yet."""
    held = "" if rows[0].kind is DatasetKind.TEXT else f" {len(rows):,} rows,"
    learned = f", {counts.num_learned_tokens:,} of them learned" if counts.num_learned_tokens else " of prompts"
    return (
        f"{ref}:{held} {counts.num_samples:,} samples, {counts.num_tokens:,} tokens{learned}, "
        f"{counts.num_truncated:,} truncated, {counts.num_dropped:,} dropped"
    )
