"""Tasks of lm-evaluation-harness: its own list of them, thousands of files, is read where one of them is asked for, and once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from quantry_core.errors import InvalidInput
from quantry_core.jobs import TasksSpec

HARNESS = "quantry_worker.child.evaluation.harness"
OWN = ["quantry_next_word", "quantry_sentence_order"]


class Lists:
    """Stands for ``lm_eval.tasks`` and writes down each list that is made."""

    def __init__(self) -> None:
        self.with_defaults: list[bool] = []

    def TaskManager(self, *, include_defaults: bool = True) -> SimpleNamespace:  # the library's name
        self.with_defaults.append(include_defaults)
        return SimpleNamespace(all_tasks=["arc_easy"], load=lambda _names: None)


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Lists:
    made = Lists()
    evaluator = SimpleNamespace(simple_evaluate=lambda **asked: asked)
    for name, module in {
        "lm_eval.tasks": made,
        "lm_eval.evaluator": evaluator,
        "lm_eval.models.huggingface": SimpleNamespace(HFLM=lambda **_given: None),
        # They import torch, which is not in this environment.
        "quantry_worker.child.numerics.model": SimpleNamespace(vocabulary_size=lambda _model: 100),
        "quantry_worker.child.numerics.perplexity": SimpleNamespace(batch_windows=lambda *_sizes: 1),
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture
def harness(lists: Lists) -> Iterator[ModuleType]:
    sys.modules.pop(HARNESS, None)
    yield import_module(HARNESS)
    del sys.modules[HARNESS]


def run(harness: Any, names: list[str]) -> None:
    spec = TasksSpec(names=names)
    harness.run_tasks(None, None, harness.load_tasks(spec), spec, seed=0)


def test_tasks_of_this_package_are_run_without_the_librarys_list(harness: Any, lists: Lists) -> None:
    run(harness, OWN)
    assert lists.with_defaults == [False]


def test_the_librarys_list_is_read_once(harness: Any, lists: Lists) -> None:
    run(harness, [OWN[0], "arc_easy"])
    run(harness, ["arc_easy"])
    assert lists.with_defaults == [True]


def test_what_is_in_no_list_is_refused(harness: Any) -> None:
    with pytest.raises(InvalidInput, match="no task 'arc_hard'"):
        harness.load_tasks(TasksSpec(names=["arc_hard"]))
