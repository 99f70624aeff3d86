"""Finds a task's inputs by their role."""

from __future__ import annotations

from quantry_core.errors import InvalidInput
from quantry_core.jobs import InputRole
from quantry_worker.protocol import DATASET_FILE, ChildInput, ChildTask


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
    """Returns a dataset's text; raises InvalidInput if it is not UTF-8."""
    try:
        return (dataset.path / DATASET_FILE).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"dataset {dataset.ref} is not UTF-8 text: {error}") from error
