"""Many recipes run by one process of the ml environment; the results are looked up by name."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from factories.child_runs import EXAMPLES, Ran
from factories.forked import run_script
from quantry_core.jobs import JobSpec
from quantry_worker.protocol import ChildInput, ChildTask, parse_event


class Asked(NamedTuple):
    """One job: what is asked for, and of what."""

    spec: JobSpec
    inputs: list[ChildInput]


def run_all(directory: Path, asked: Mapping[str, Asked]) -> dict[str, Ran]:
    """Runs every job in a folder of its name."""
    tasks = [_task(directory / name, one) for name, one in asked.items()]
    files = [directory / "tasks.json", directory / "answers.json"]
    files[0].write_text(json.dumps([task.model_dump(mode="json") for task in tasks]))
    script, started = Path(__file__).with_name("recipes_in_ml.py"), time.monotonic()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    log = run_script(script, *files, variables=environment)
    answers: list[list[Any]] = json.loads(files[1].read_text())
    return {
        task.output_dir.parent.name: Ran(
            events=[parse_event(json.dumps(event).encode()) for event in answer],
            status=0,
            seconds=time.monotonic() - started,
            output_dir=task.output_dir,
            artifacts_dir=task.artifacts_dir,
            checkpoints_dir=task.checkpoints_dir,
            log=log,
        )
        for task, answer in zip(tasks, answers, strict=True)
    }


def _task(directory: Path, asked: Asked) -> ChildTask:
    folders = {f"{name}_dir": directory / name for name in ("output", "artifacts", "checkpoints")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return ChildTask(job_id="job_1", attempt=1, spec=asked.spec, inputs=asked.inputs, import_roots=[EXAMPLES], num_threads=2, **folders)
