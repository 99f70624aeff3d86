"""The child's small parts: events, failures, tables, inputs."""

from __future__ import annotations

import errno
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from quantry_core.errors import InvalidInput, SourceRefused, StaleAttempt
from quantry_core.jobs import ImportSpec, InputRole, JobReason, JobType
from quantry_core.methods import Backend
from quantry_worker.child.backends.table import BACKENDS
from quantry_worker.child.device import peak_vram_bytes
from quantry_worker.child.failures import Diverged, failure_of
from quantry_worker.child.inputs import inputs_of, only_input, read_text
from quantry_worker.child.recipes.table import RECIPES, load_recipe
from quantry_worker.child.reporter import MIN_INTERVAL_S, Reporter, Units
from quantry_worker.disk import DiskFull
from quantry_worker.protocol import (
    MAX_FAILURE_CHARS,
    ChildCheckpoint,
    ChildInput,
    ChildMetrics,
    ChildNote,
    ChildProgress,
    ChildTask,
    parse_event,
)


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (SourceRefused("no config.json"), JobReason.INVALID_INPUT, "no config.json"),
        (InvalidInput("too short"), JobReason.INVALID_INPUT, "too short"),
        (Diverged("NaN in a"), JobReason.DIVERGED, "NaN in a"),
        (MemoryError(), JobReason.OUT_OF_MEMORY, "out of memory"),
        (OutOfMemoryError("layer 3"), JobReason.OUT_OF_MEMORY, "layer 3"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"), JobReason.OUT_OF_MEMORY, "can't allocate"),
        (OSError(errno.ENOSPC, "No space left on device", "/w/a"), JobReason.INTERNAL, "disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), JobReason.INTERNAL, "QUANTRY_WORK_DIR"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), JobReason.INTERNAL, "disk is full"),
        (DiskFull("the worker's disk is full: 9 bytes"), JobReason.INTERNAL, "the worker's disk is full: 9 bytes"),
        (OSError(errno.EACCES, "Permission denied"), JobReason.INTERNAL, "PermissionError: "),
        (RuntimeError("shape mismatch"), JobReason.INTERNAL, "RuntimeError: shape mismatch"),
    ],
)
def test_every_exception_has_a_reason(error: Exception, reason: JobReason, words: str) -> None:
    failure = failure_of(error)
    assert failure.reason is reason
    assert words in failure.message


def test_a_long_message_is_cut() -> None:
    assert len(failure_of(ValueError("x" * 10_000)).message) == MAX_FAILURE_CHARS
    assert failure_of(StaleAttempt("late")).reason is JobReason.INVALID_INPUT


def test_what_is_not_finite_is_not_measured() -> None:
    lines = list[bytes]()
    reporter = Reporter(lines.append)
    reporter.metrics(3, {"loss": float("nan"), "learning_rate": 1e-4})
    reporter.metrics(4, {"loss": float("inf")})
    reporter.checkpoint(4, "step-4", {"loss": float("nan"), "eval_loss": 2})
    assert [parse_event(line) for line in lines] == [
        ChildMetrics(step=3, values={"learning_rate": 1e-4}),
        ChildCheckpoint(step=4, folder="step-4", metrics={"eval_loss": 2.0}),
    ]


def test_progress_never_goes_back_and_is_not_sent_too_often() -> None:
    now, lines = [0.0], list[bytes]()
    reporter = Reporter(lines.append, clock=lambda: now[0])
    reporter.progress("loading", 0.3)
    reporter.progress("loading", 0.35)
    now[0] += MIN_INTERVAL_S
    reporter.progress("loading", 0.2, "x" * 500)
    reporter.progress("saving", 2.0)
    reporter.note("n" * 5000)

    events = [parse_event(line) for line in lines]
    progress = [event for event in events if isinstance(event, ChildProgress)]
    assert [(event.phase, event.fraction) for event in progress] == [("loading", 0.3), ("loading", 0.35), ("saving", 1.0)]
    assert len(progress[1].detail) == 200
    assert isinstance(events[-1], ChildNote)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)


def test_units_are_sent_along_and_the_last_one_always() -> None:
    lines = list[bytes]()
    reporter = Reporter(lines.append, clock=lambda: 0.0)
    for done in range(1, 13):
        reporter.progress("quantizing", done / 20, units=Units(done, 12, "layers"))
    reporter.progress("copying", 0.9, units=Units(0, 0, "bytes"))
    events = [parse_event(line) for line in lines]
    counted = [(event.done, event.total, event.unit) for event in events if isinstance(event, ChildProgress)]
    assert counted == [(1, 12, "layers"), (12, 12, "layers"), (None, None, "")]


class StandInCuda:
    """torch.cuda with two devices."""

    def __init__(self, num_devices: int) -> None:
        self._num_devices = num_devices

    def is_available(self) -> bool:
        return self._num_devices > 0

    def device_count(self) -> int:
        return self._num_devices

    def max_memory_allocated(self, index: int) -> int:
        return 1000 * (index + 1)


@pytest.mark.parametrize(("num_devices", "peak_bytes"), [(0, None), (1, 1000), (2, 3000)])
def test_device_memory_is_told_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch, num_devices: int, peak_bytes: int | None) -> None:
    torch = ModuleType("torch")
    torch.cuda = StandInCuda(num_devices)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert peak_vram_bytes() == peak_bytes


def test_without_torch_no_device_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert peak_vram_bytes() is None


def test_the_tables_name_every_job_a_worker_runs_and_every_backend() -> None:
    assert set(RECIPES) == set(JobType) - {JobType.DEPLOY}
    assert set(BACKENDS) == set(Backend)
    assert all(find_spec(module) is not None for module in [*RECIPES.values(), *BACKENDS.values()])
    with pytest.raises(LookupError, match="no worker runs deploy jobs"):
        load_recipe(JobType.DEPLOY)


def test_import_and_quantize_load_no_torch_before_they_need_it() -> None:
    code = (
        "import sys; from quantry_core.jobs import JobType; from quantry_worker.child.recipes.table import load_recipe;"
        "load_recipe(JobType.IMPORT); load_recipe(JobType.QUANTIZE);"
        "print([name for name in ('torch', 'transformers', 'llmcompressor', 'huggingface_hub') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def dataset(path: Path, content: bytes) -> ChildInput:
    path.mkdir()
    (path / "text.txt").write_bytes(content)
    return ChildInput(role=InputRole.CORPUS, id="dat_1", ref="kjv@1", path=path)


def test_inputs_are_found_by_role(tmp_path: Path) -> None:
    first, second = dataset(tmp_path / "a", "Schöpfung".encode()), dataset(tmp_path / "b", b"\xff")
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=ImportSpec(model="m", source="/x"),
        inputs=[first, second],
        output_dir=tmp_path,
        artifacts_dir=tmp_path,
        checkpoints_dir=tmp_path,
        import_roots=[],
        num_threads=1,
    )
    assert inputs_of(task, InputRole.CORPUS) == [first, second]
    with pytest.raises(ValueError, match="2 inputs of role corpus"):
        only_input(task, InputRole.CORPUS)
    assert read_text(first) == "Schöpfung"
    with pytest.raises(InvalidInput, match="kjv@1 is not UTF-8"):
        read_text(second)
