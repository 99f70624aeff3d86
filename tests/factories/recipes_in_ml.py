"""Runs in the ml environment: one recipe after another in one process, because its libraries take seconds to import.

    <ml python> recipes_in_ml.py <tasks.json> <answers.json>

A task is a ChildTask; an answer is all that was said, the last of it a ChildResult or a ChildFailure.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from quantry_worker.child.failures import failure_of
from quantry_worker.child.recipes.table import load_recipe
from quantry_worker.child.reporter import Reporter
from quantry_worker.protocol import ChildTask


def main() -> None:
    tasks, answers = (Path(word) for word in sys.argv[1:])
    # A gradient through what has none is a wrong result, no matter for a log.
    warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")
    said = [perform(ChildTask.model_validate(task)) for task in json.loads(tasks.read_text())]
    answers.write_text(json.dumps(said))


def perform(task: ChildTask) -> list[Any]:
    lines: list[bytes] = []
    reporter = Reporter(lines.append)
    try:
        reporter.end(load_recipe(task.spec.type)(task, reporter))
    except Exception as error:
        traceback.print_exc()
        reporter.end(failure_of(error))
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
