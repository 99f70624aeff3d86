"""Finds a task's inputs by their role, and reads datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.errors import InvalidInput
from quantry_core.jobs import InputRole
from quantry_core.rows import BadRow, Row, parse_row
from quantry_worker.protocol import ChildInput, ChildTask


def inputs_of(task: ChildTask, role: InputRole) -> list[ChildInput]:
    """Returns the inputs of a role in the order of the spec."""
    return [one for one in task.inputs if one.role is role]


def only_input(task: ChildTask, role: InputRole) -> ChildInput:
    """Returns the single input of a role; raises ValueError if the task was made without it."""
    found = inputs_of(task, role)
    if len(found) != 1:
        raise ValueError(f"task of job {task.job_id} has {len(found)} inputs of role {role}, needed is one")
    return found[0]


def read_text(dataset: ChildInput) -> str:
    """Returns a plain text dataset's text; raises InvalidInput if it is not UTF-8."""
    try:
        return _file_of(dataset).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"dataset {dataset.ref} is not UTF-8 text: {error}") from error


def read_rows(dataset: ChildInput) -> Iterator[tuple[int, Row]]:
    """Yields a dataset's rows in their order, each with its line, from 1; raises InvalidInput naming the line of one that is none."""
    kind = kind_of(dataset)
    with _file_of(dataset).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, parse_row(kind, line.decode())
            except (BadRow, UnicodeDecodeError) as error:
                raise InvalidInput(f"dataset {dataset.ref}: line {number} {error}") from error


def kind_of(dataset: ChildInput) -> DatasetKind:
    """Returns what a dataset's file is; text where nothing is said."""
    return dataset.dataset_kind or DatasetKind.TEXT


def _file_of(dataset: ChildInput) -> Path:
    return dataset.path / DATASET_FILES[kind_of(dataset)]
