"""Tasks of lm-evaluation-harness on a loaded model. Nothing is fetched: a task runs if its documents are on this machine,
in what the worker lends of its QUANTRY_DATASETS_CACHE.

Two tasks come with this package, in ``tasks``; their documents were made from the texts in examples/corpora by
``examples/make_tasks.py``. Paper: Biderman et al. 2024, arXiv:2405.14782.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from quantry_core.errors import InvalidInput
from quantry_core.jobs import TasksSpec
from quantry_core.thresholds import CHANGE_SUFFIX, TASK_PREFIX, Part, thresholds_on
from quantry_worker.child.libraries import bring_in, load
from quantry_worker.child.numerics.model import vocabulary_size
from quantry_worker.child.numerics.perplexity import batch_windows

TASKS_DIR = Path(__file__).with_name("tasks")
TYPICAL_TOKENS = 256
"""Length of a prompt that batches are planned for."""
BOOTSTRAP_RESAMPLES = 1000
"""Of the harness's own standard errors, where a metric has no formula for one."""
MAX_CAUSE_CHARS = 300

LoadedTasks = dict[str, Any]
"""By the name asked for: what the harness made of it."""


def load_tasks(spec: TasksSpec) -> LoadedTasks:
    """Returns the tasks with their documents; raises InvalidInput naming the one that is not known or not on this machine."""
    return {name: _load(name) for name in spec.names}


def run_tasks(model: Any, tokenizer: Any, tasks: LoadedTasks, spec: TasksSpec, *, seed: int) -> dict[str, Any]:
    """Returns the harness's own result document: results, versions, samples and more."""
    harness = _lm_eval("models.huggingface").HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=batch_windows(TYPICAL_TOKENS, vocabulary_size(model))
    )
    document: dict[str, Any] = _lm_eval("evaluator").simple_evaluate(
        model=harness,
        tasks=list(tasks.values()),
        task_manager=_manager(spec.names),
        num_fewshot=spec.num_fewshot,
        limit=spec.limit,
        bootstrap_iters=BOOTSTRAP_RESAMPLES,
        log_samples=True,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    return document


def task_figures(document: dict[str, Any], name: str) -> dict[str, float | int]:
    """Returns a task's metrics and their standard errors (``_stderr``), by name; the filter is named where there is one."""
    figures: dict[str, float | int] = {}
    for key, value in document["results"].get(name, {}).items():
        metric, _, chosen_by = key.partition(",")
        # What the harness does not know is a string: "N/A".
        if metric != "sample_len" and isinstance(value, int | float):
            figures[metric if chosen_by in {"", "none"} else f"{metric}.{chosen_by}"] = value
    return figures


def compared_figures(document: dict[str, Any], theirs: dict[str, Any] | None, name: str) -> dict[str, float | int]:
    """Returns a task's figures; with a reference's document its figures too, and what changed against them (``_change``)."""
    figures = task_figures(document, name)
    if theirs is None:
        return figures
    before = task_figures(theirs, name)
    changes = {
        f"{metric}{CHANGE_SUFFIX}": value - before[metric]
        for metric, value in figures.items()
        if metric in before and not metric.partition(".")[0].endswith("_stderr")
    }
    return figures | {f"reference_{metric}": value for metric, value in before.items()} | changes


def bounded_figures(figures: dict[str, float | int], name: str) -> dict[str, float | int]:
    """Returns a task's figures by the names of thresholds."""
    return {f"{TASK_PREFIX}{name}.{metric}": value for metric, value in figures.items()}


def reported(document: dict[str, Any], asked: list[str], thresholds: Mapping[str, float]) -> list[str]:
    """Returns the names to report: each that was asked for, or, for a tag that stands for several tasks, all that ran for it.

    What a threshold is on is among them even if it has no figures of its own.
    """
    results = document["results"]
    if all(name in results for name in asked):
        return asked
    return [*results, *(name for name in asked if name not in results and thresholds_on(thresholds, Part.TASKS, name))]


def task_facts(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns what a task's figures rest on: version, number of documents, of examples in the prompt."""
    facts = {
        "task_version": document["versions"].get(name),
        "num_fewshot": document["n-shot"].get(name),
        "num_documents": document["n-samples"].get(name, {}).get("effective"),
    }
    return {key: value for key, value in facts.items() if value is not None}


@cache
def _library() -> Any:
    """Returns the harness's own list of tasks: it reads thousands of files for it, which takes seconds. Once for a process."""
    return _lm_eval("tasks").TaskManager()


def _manager(names: Sequence[str]) -> Any:
    """Returns who finds these tasks: those of this package need no list."""
    if set(names) <= set(own_tasks()):
        return _lm_eval("tasks").TaskManager(include_defaults=False)
    return _library()


def _load(name: str) -> Any:
    own = TASKS_DIR / f"{name}.yaml"
    if own.is_file():
        return _with_own_data(yaml.safe_load(own.read_text(encoding="utf-8")))
    manager = _library()
    if name not in manager.all_tasks:
        raise InvalidInput(f"lm-evaluation-harness has no task {name!r}; tasks that need no download: {', '.join(own_tasks())}")
    try:
        manager.load([name])
    # A task may run its own code and any loader of documents: whatever it raises, it could not be loaded.
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"[:MAX_CAUSE_CHARS]
        raise InvalidInput(
            f"task {name} cannot be loaded: its documents are not in this worker's QUANTRY_DATASETS_CACHE, and evaluations fetch nothing "
            f"({cause}); "
            f"tasks that need no download: {', '.join(own_tasks())}"
        ) from error
    return name


def own_tasks() -> list[str]:
    """Returns the names of the tasks that come with this package."""
    return sorted(path.stem for path in TASKS_DIR.glob("*.yaml"))


def _with_own_data(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a task's configuration with the paths of its documents made absolute."""
    files = {split: str(TASKS_DIR / file) for split, file in config["dataset_kwargs"]["data_files"].items()}
    return config | {"dataset_kwargs": {"data_files": files}}


def _lm_eval(module: str) -> ModuleType:
    """Returns a module of the harness, whose metrics are scikit-learn's."""
    bring_in("sklearn")
    return load(f"lm_eval.{module}")
