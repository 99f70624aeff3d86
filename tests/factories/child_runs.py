"""Runs the child for real, in the ml environment, as the supervisor does; and the inputs it is given."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import InputRole, JobSpec
from quantry_core.methods import Format
from quantry_core.versions import EvidenceDraft, VersionKind
from quantry_worker.protocol import EVENTS_FD_VARIABLE, ChildFailure, ChildInput, ChildResult, ChildTask, parse_event

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
MASTER = EXAMPLES / "bard-6m"
ML_PYTHON = ROOT / ".venvs" / "ml" / "bin" / "python"
WITHOUT_GARBAGE = Path(__file__).with_name("without_garbage.py")
ML_SCRIPT = (str(ML_PYTHON), str(WITHOUT_GARBAGE))
"""What runs a script of the ml environment."""

ENGINE_PYTHON = ROOT / ".venvs" / "engine-cpu" / "bin" / "python"
ENGINE_SCRIPT = ROOT / "services" / "engine" / "serve.py"
TEXT_FILE = DATASET_FILES[DatasetKind.TEXT]
SHARED_CORES = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""For processes of the ml environment: threads that look while they wait, however shortly, take the cores from other tests."""

CHILD = "quantry_worker.child"
LOG = "log.txt"


class Waited(Protocol):
    """A child that was started."""

    def wait(self, timeout: float) -> int: ...


@dataclass(frozen=True)
class Ran:
    """How a child ended, and all it said."""

    events: list[Any]
    status: int
    seconds: float
    output_dir: Path
    artifacts_dir: Path
    checkpoints_dir: Path
    log: str

    @property
    def result(self) -> ChildResult:
        assert isinstance(self.events[-1], ChildResult), (self.events[-1:], self.log[-2000:])
        return self.events[-1]

    @property
    def failure(self) -> ChildFailure:
        assert isinstance(self.events[-1], ChildFailure), self.events[-1]
        return self.events[-1]

    def evidence(self, name: str) -> EvidenceDraft:
        (found,) = [one for one in self.result.evidence if one.name == name]
        return found


def start(directory: Path, spec: JobSpec, inputs: list[ChildInput], **more: Any) -> tuple[subprocess.Popen[bytes], int]:
    """Starts a child as the supervisor does; returns it and the end of the pipe to read. ``more`` are further fields of its task."""
    task_file = write_task(directory, spec, inputs, **more)
    reader, writer = os.pipe()
    with (directory / LOG).open("wb") as log:
        child = subprocess.Popen(
            [ML_PYTHON, "-m", CHILD, task_file],
            pass_fds=[writer],
            env=environment(directory, writer),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
        )
    os.close(writer)
    return child, reader


def write_task(directory: Path, spec: JobSpec, inputs: list[ChildInput], **more: Any) -> Path:
    """Makes the folders of a child and returns the file that says what it is to do."""
    output_dir, artifacts_dir, checkpoints_dir = directory / "output", directory / "artifacts", directory / "checkpoints"
    for folder in (output_dir, artifacts_dir, checkpoints_dir):
        folder.mkdir(parents=True)
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=spec,
        inputs=inputs,
        output_dir=output_dir,
        artifacts_dir=artifacts_dir,
        checkpoints_dir=checkpoints_dir,
        import_roots=[EXAMPLES, directory.parent],
        num_threads=2,
        **more,
    )
    task_file = directory / "task.json"
    task_file.write_text(task.model_dump_json())
    return task_file


def environment(directory: Path, events: int) -> dict[str, str]:
    """Returns the variables of a child that tells its events on a descriptor of this number."""
    return {"PATH": os.defpath, "HOME": str(directory), EVENTS_FD_VARIABLE: str(events), "HF_HUB_OFFLINE": "1", **SHARED_CORES}


def run(directory: Path, spec: JobSpec, inputs: list[ChildInput], **more: Any) -> Ran:
    """Runs a child to its end."""
    started = time.monotonic()
    child, reader = start(directory, spec, inputs, **more)
    return ended(directory, child, reader, started)


def ended(directory: Path, child: Waited, reader: int, started: float) -> Ran:
    """Reads all a child says until it ends; it was started at ``started``, on the monotonic clock."""
    with os.fdopen(reader, "rb") as events:
        parsed = [parse_event(line) for line in events]
    status = child.wait(timeout=30)
    log = (directory / LOG).read_text(errors="replace")
    return Ran(
        events=parsed,
        status=status,
        seconds=time.monotonic() - started,
        output_dir=directory / "output",
        artifacts_dir=directory / "artifacts",
        checkpoints_dir=directory / "checkpoints",
        log=log,
    )


def checkpoint(role: InputRole, path: Path, kind: VersionKind = VersionKind.MASTER, form: Format = Format.SAFETENSORS) -> ChildInput:
    """Returns a version as an input."""
    return ChildInput(role=role, id="ver_1", ref="bard@1", kind=kind, format=form, path=path)


def text(role: InputRole, directory: Path, name: str, max_bytes: int | None = None) -> ChildInput:
    """Returns one of the example texts as an input, written below ``directory``."""
    path = directory / name
    path.mkdir(parents=True, exist_ok=True)
    (path / TEXT_FILE).write_bytes((EXAMPLES / "corpora" / f"{name}.txt").read_bytes()[:max_bytes])
    return ChildInput(role=role, id="dat_1", ref=f"{name}@1", dataset_kind=DatasetKind.TEXT, path=path)
