"""The child process of one attempt: ``python -m quantry_worker.child <task.json>``.

It reads its task, runs the recipe of the job's type, and writes events to the descriptor of ``reporter``. It holds no
secret and talks to nobody. SIGTERM ends it at once: what an attempt has done is nothing until it is finished.
"""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path

from quantry_worker.child.device import peak_vram_bytes
from quantry_worker.child.failures import failure_of
from quantry_worker.child.libraries import leave_out
from quantry_worker.child.recipes.table import load_recipe
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.waiting import wait_politely
from quantry_worker.protocol import ChildFailure, ChildResult, ChildTask


def main(arguments: list[str]) -> int:
    """Runs the task in the file named by the only argument; returns the exit status, 0 also for an expected failure."""
    wait_politely()
    leave_out()
    # A parent that ignores SIGTERM would pass that on.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    (task_path,) = arguments
    task = ChildTask.model_validate_json(Path(task_path).read_bytes())
    reporter = Reporter.from_environment()
    reporter.end(_perform(task, reporter))
    return 0


def _perform(task: ChildTask, reporter: Reporter) -> ChildResult | ChildFailure:
    try:
        result = load_recipe(task.spec.type)(task, reporter)
        return result.model_copy(update={"peak_vram_bytes": peak_vram_bytes()})
    except Exception as error:
        traceback.print_exc()
        return failure_of(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
