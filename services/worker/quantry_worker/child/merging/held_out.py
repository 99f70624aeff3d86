"""The loss by which ways are judged: how surprised a model is by the answers of rows that nothing was trained on.

Samples are those of training (``training/samples.py``): prompts are seen and not scored. Of preferences the chosen answer counts, of
labelled rows a good one. B, T, V are the samples of a batch, their tokens, and the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.families import context_tokens
from quantry_core.rows import Row
from quantry_core.training import Overlong
from quantry_worker.child.inputs import kind_of, read_rows, read_text
from quantry_worker.child.merging.losses import Losses
from quantry_worker.child.numerics.model import read_config, vocabulary_size
from quantry_worker.child.numerics.perplexity import batch_windows
from quantry_worker.child.numerics.tokenizer import load_tokenizer
from quantry_worker.child.training.log_loss import collate, log_losses
from quantry_worker.child.training.order import Counts
from quantry_worker.child.training.samples import Sample, SampleOrder, make_samples
from quantry_worker.protocol import ChildInput

MAX_SAMPLES = 512
"""The first so many samples are scored."""
DEFAULT_CONTEXT_TOKENS = 2048
"""Where config.json states none."""


@dataclass(frozen=True)
class HeldOut:
    """Samples of a dataset."""

    ref: str
    samples: list[Sample]
    num_truncated: int
    num_dropped: int


def read_held_out(tokenizer_dir: Path, dataset: ChildInput, window_tokens: int) -> HeldOut:
    """Returns the samples of a dataset; plain text is cut into windows. Raises InvalidInput for rows without an answer to score."""
    is_text = kind_of(dataset) is DatasetKind.TEXT
    length = window_tokens if is_text else context_tokens(read_config(tokenizer_dir)) or DEFAULT_CONTEXT_TOKENS
    order = SampleOrder(
        load_tokenizer(tokenizer_dir), dataset.ref, length, Overlong.TRUNCATE, completion_only=True, max_samples=MAX_SAMPLES
    )
    counts = Counts()
    rows = [(1, Row(DatasetKind.TEXT, text=read_text(dataset)))] if is_text else list(islice(_answered(dataset), MAX_SAMPLES))
    samples = make_samples(order, rows, counts)
    if not samples:
        raise InvalidInput(f"dataset {dataset.ref} has no answer that fits into {length} tokens: there is nothing to judge by")
    return HeldOut(dataset.ref, samples, counts.num_truncated, counts.num_dropped)


def score_held_out(model: Any, held_out: HeldOut) -> Losses:
    """Returns what a model makes of the samples."""
    sums: list[float] = []
    for samples in _batches(held_out.samples, vocabulary_size(model)):
        # What stands behind a sample's end is seen by nothing before it, and not scored: no mask is needed, and any token will do.
        batch = collate(samples, pad_id=0)
        with torch.inference_mode():
            sums += log_losses(model(input_ids=batch["input_ids"], use_cache=False).logits, batch["labels"])
    counts = [one.num_learned for one in held_out.samples]
    return Losses(np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64))


def _answered(dataset: ChildInput) -> Iterator[tuple[int, Row]]:
    """Yields rows with their lines, those of preferences and labels as prompts with their good answer."""
    for line, row in read_rows(dataset):
        if row.kind not in {DatasetKind.PREFERENCES, DatasetKind.LABELLED}:
            yield line, row
        elif row.exemplary:
            kind = DatasetKind.PROMPTS if len(row.exemplary) == 2 else DatasetKind.CHAT
            yield line, replace(row, kind=kind, messages=row.exemplary)


def _batches(samples: list[Sample], vocabulary: int) -> Iterator[list[Sample]]:
    """Yields samples in their order, as many at a time as the logits of the longest of them allow."""
    batch: list[Sample] = []
    for sample in samples:
        length = max(len(one.input_ids) for one in [*batch, sample])
        if batch and len(batch) >= batch_windows(length, vocabulary):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch
