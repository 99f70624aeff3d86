"""Runs one recipe in the ml environment as the supervisor does, without a platform around it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from bench.embedded import ROOT
from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import InputRole, JobSpec
from quantry_worker.protocol import EVENTS_FD_VARIABLE, ChildInput, ChildResult, ChildTask, parse_event

ML_PYTHON = ROOT / ".venvs" / "ml" / "bin" / "python"
NUM_THREADS = len(os.sched_getaffinity(0))


def run(directory: Path, spec: JobSpec, inputs: list[ChildInput]) -> tuple[ChildResult, Path]:
    """Returns what a recipe made, and its output folder; raises RuntimeError with its words if it failed."""
    folders = {f"{name}_dir": directory / name for name in ("output", "artifacts", "checkpoints")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    task = ChildTask(job_id="job_1", attempt=1, spec=spec, inputs=inputs, import_roots=[directory], num_threads=NUM_THREADS, **folders)
    (directory / "task.json").write_text(task.model_dump_json())
    reader, writer = os.pipe()
    environment = {"PATH": os.defpath, "HOME": str(directory), EVENTS_FD_VARIABLE: str(writer), "HF_HUB_OFFLINE": "1"}
    with (directory / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            [ML_PYTHON, "-m", "quantry_worker.child", directory / "task.json"],
            pass_fds=[writer],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    os.close(writer)
    with os.fdopen(reader, "rb") as events:
        *_, last = (parse_event(line) for line in events)
    child.wait()
    if not isinstance(last, ChildResult):
        raise RuntimeError(f"{spec.type} in {directory} ended as {last}")
    return last, task.output_dir


def text(role: InputRole, directory: Path, name: str) -> ChildInput:
    """Returns one of the example texts as an input, written below ``directory``."""
    path = directory / name
    path.mkdir(parents=True, exist_ok=True)
    (path / DATASET_FILES[DatasetKind.TEXT]).write_bytes((ROOT / "examples" / "corpora" / f"{name}.txt").read_bytes())
    return ChildInput(role=role, id=f"dat_{name}", ref=f"{name}@1", dataset_kind=DatasetKind.TEXT, path=path)


def ml_versions(*distributions: str) -> dict[str, str]:
    """Returns the versions of these distributions in the ml environment."""
    script = f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {distributions}}}))"
    found = subprocess.run([str(ML_PYTHON), "-c", script], check=True, capture_output=True, text=True)
    versions: dict[str, str] = json.loads(found.stdout)
    return versions
