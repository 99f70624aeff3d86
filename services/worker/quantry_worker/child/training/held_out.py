"""What is measured and never trained on: a validation file, or a share of the training file drawn by the spec's seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.rows import Row, why_not_trainable
from quantry_core.training import REWARD_METHODS, TrainingMethod
from quantry_worker.child.inputs import kind_of, read_rows, read_text
from quantry_worker.protocol import ChildInput

Numbered = tuple[int, Row]
"""A row and its line in its file, from 1; a passage of plain text and its place."""

CHARACTERS_PER_TOKEN = 4
MAX_NAMED = 100
"""So many of the lines that nothing can be learned from are named."""
MIN_PASSAGES = 20
"""Text that is shorter is cut into shorter passages, so that a small share of it can be held out."""


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows to measure on, none in both."""

    train: list[Numbered]
    validation: list[Numbered]
    train_ref: str
    validation_ref: str
    held_out_share: float | None
    """Of the training file's rows or passages; None where a validation file was given."""


def read_data(
    training: ChildInput, validation: ChildInput | None, *, method: TrainingMethod, share: float, seed: int, sequence_tokens: int
) -> Data:
    """Returns the rows of both; raises InvalidInput for rows that nothing can be learned from, or a file that is too small to share."""
    rows = _read(training, method)
    if validation is not None:
        return Data(rows, _read(validation, method), training.ref, validation.ref, None)
    if kind_of(training) is DatasetKind.TEXT:
        rows = passages(rows[0][1].text, sequence_tokens * CHARACTERS_PER_TOKEN)
    if len(rows) < 2:
        raise InvalidInput(f"dataset {training.ref} is too small to hold a part of it out; give a validation_file")
    chosen = draw(len(rows), share, seed)
    held_out = [row for index, row in enumerate(rows) if index in chosen]
    left = [row for index, row in enumerate(rows) if index not in chosen]
    if kind_of(training) is DatasetKind.TEXT:
        left = joined(left)
    return Data(left, held_out, training.ref, training.ref, len(held_out) / len(rows))


def draw(num_rows: int, share: float, seed: int) -> set[int]:
    """Returns which of ``num_rows`` are held out: that share, at least one and not all; the same for the same arguments."""
    num_chosen = min(max(1, round(num_rows * share)), num_rows - 1)
    return set(np.random.default_rng(seed).choice(num_rows, size=num_chosen, replace=False).tolist())


def passages(text: str, characters: int) -> list[Numbered]:
    """Returns text in runs of whole lines of about so many characters each, one after another and all of it, numbered.

    A line that is longer than that is cut at spaces.
    """
    size = min(characters, math.ceil(len(text) / MIN_PASSAGES))
    found: list[str] = []
    held: list[str] = []
    length = 0
    for piece in (one for line in text.splitlines(keepends=True) for one in _pieces(line, size)):
        held.append(piece)
        length += len(piece)
        if length >= size:
            found.append("".join(held))
            held, length = [], 0
    if held:
        found.append("".join(held))
    return [(number, Row(DatasetKind.TEXT, text=passage)) for number, passage in enumerate(found, 1)]


def _pieces(line: str, size: int) -> Iterator[str]:
    """Yields a line in pieces of at most ``size`` characters, white space at its end not counted, each cut after a space if it has one."""
    begin, end = 0, len(line.rstrip())
    while end - begin > size:
        cut = line.rfind(" ", begin, begin + size) + 1 or begin + size
        yield line[begin:cut]
        begin = cut
    yield line[begin:]


def joined(rows: Sequence[Numbered]) -> list[Numbered]:
    """Returns passages with neighbours put together again, so that text is cut only where something was taken out of it."""
    found: list[tuple[int, list[str]]] = []
    last = None
    for number, row in rows:
        if last is not None and number == last + 1:
            found[-1][1].append(row.text)
        else:
            found.append((number, [row.text]))
        last = number
    return [(number, Row(DatasetKind.TEXT, text="".join(parts))) for number, parts in found]


def _read(dataset: ChildInput, method: TrainingMethod) -> list[Numbered]:
    if kind_of(dataset) is DatasetKind.TEXT:
        return [(1, Row(DatasetKind.TEXT, text=read_text(dataset)))]
    rows = list(read_rows(dataset))
    if not rows:
        raise InvalidInput(f"dataset {dataset.ref} has no rows")
    # Methods that let the model answer itself need no answer.
    if method not in REWARD_METHODS:
        _check_answers(dataset, rows)
    return rows


def _check_answers(dataset: ChildInput, rows: Sequence[Numbered]) -> None:
    """Raises InvalidInput naming the lines that nothing can be learned from, by their reasons."""
    found = [(line, reason) for line, row in rows if (reason := why_not_trainable(row)) is not None]
    if not found:
        return
    by_reason: dict[str, list[str]] = {}
    for line, reason in found[:MAX_NAMED]:
        by_reason.setdefault(reason, []).append(str(line))
    words = [f"line {', '.join(lines)} {reason}" for reason, lines in by_reason.items()]
    if len(found) > MAX_NAMED:
        words.append(f"and {len(found) - MAX_NAMED} more such lines")
    raise InvalidInput(f"dataset {dataset.ref}: {'; '.join(words)}")
