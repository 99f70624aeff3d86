"""``python -m bench.overhead``: prints the table and writes bench/results/overhead.json and .md. Takes about a quarter of an hour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.embedded import ROOT, Measured, embedded_stack
from bench.report import Row, middle, publish, row, versions
from quantry_core.jobs import CalibrationSpec, ImportSpec, Job, JobStatus, QuantizeSpec

MODEL, TEXT = "random-130m", "kjv.calibration"
NUM_REPETITIONS = 3
NUM_SAMPLES, LENGTH_TOKENS, GROUP_SIZE = 64, 256, 128
JOB_TIMEOUT_S = 1800.0
POLL_S = 0.5
LIBRARIES = ("celery", "fastapi", "sqlalchemy", "minio")
ML_LIBRARIES = ("torch", "transformers", "llmcompressor", "compressed-tensors")


@dataclass(frozen=True)
class Cost:
    """One run: wall-clock seconds and the highest resident memory of its processes, in MB."""

    wall_s: float
    peak_mb: float


def main() -> int:
    """Runs bare script and platform in turn; returns 0."""
    ml_python = ROOT / ".venvs" / "ml" / "bin" / "python"
    with embedded_stack({"QUANTRY_WORKER_SLOTS": "1"}) as measured:
        master = measured.scratch / MODEL
        num_parameters = _run_ml(ml_python, "make_model.py", str(ROOT / "examples" / "bard-6m"), str(master)).strip()
        import_spec = ImportSpec(model=MODEL, source=str(master))
        _succeeded(measured, measured.client.jobs.submit(import_spec).id)
        measured.client.datasets.upload(TEXT, ROOT / "examples" / "corpora" / f"{TEXT}.txt")
        bare, platform = [], []
        for _ in range(NUM_REPETITIONS):
            bare.append(_bare(ml_python, master, measured.scratch / "bare"))
            platform.append(_platform(measured))
    details = {
        "num_parameters": int(num_parameters.splitlines()[-1]),
        "bare": [vars(cost) for cost in bare],
        "platform": [vars(cost) for cost in platform],
        "ml": _run_ml(
            ml_python, "-c", f"from importlib.metadata import version; print({{n: version(n) for n in {ML_LIBRARIES!r}}})"
        ).strip(),
    }
    publish("overhead", "What the platform adds to a quantize", _rows(bare, platform), libraries=versions(*LIBRARIES), details=details)
    return 0


def _rows(bare: list[Cost], platform: list[Cost]) -> list[Row]:
    floor = "the bare script: same model, method and calibration tokens, no gate, nothing stored"
    return [
        row(
            "wall clock of a quantize",
            middle([cost.wall_s for cost in platform]),
            middle([cost.wall_s for cost in bare]),
            "s",
            goal="<= 1.05",
            floor=floor,
            bound="the gate reads every module again; pull, upload and seal hash every byte",
        ),
        row(
            "peak memory of a quantize, supervisor included",
            middle([cost.peak_mb for cost in platform]),
            middle([cost.peak_mb for cost in bare]),
            "MB",
            goal="<= 1.05",
            floor=floor,
            bound="the same float32 weights and Hessians, and a supervisor without torch",
        ),
    ]


def _platform(measured: Measured) -> Cost:
    """Returns what one quantize job cost, from its submission to its end."""
    spec = QuantizeSpec(
        base=f"{MODEL}@1",
        group_size=GROUP_SIZE,
        calibration=CalibrationSpec(datasets=[TEXT], num_samples=NUM_SAMPLES, length_tokens=LENGTH_TOKENS),
    )
    (worker,) = (part for part in measured.stack.status() if part.name == "worker")
    (supervisor,) = psutil.Process(worker.pid).children()
    job = _succeeded(measured, measured.client.jobs.submit(spec, force=True).id)
    if job.finished_at is None or job.result is None or job.result.peak_memory_bytes is None:
        raise RuntimeError("the job says neither when it ended nor what it used")
    peak_bytes = job.result.peak_memory_bytes + supervisor.memory_info().rss
    return Cost((job.finished_at - job.created_at).total_seconds(), peak_bytes / 1e6)


def _bare(ml_python: Path, master: Path, output: Path) -> Cost:
    """Returns what the bare script cost."""
    shutil.rmtree(output, ignore_errors=True)
    text = ROOT / "examples" / "corpora" / f"{TEXT}.txt"
    numbers = [str(number) for number in (NUM_SAMPLES, LENGTH_TOKENS, GROUP_SIZE)]
    command = [str(ml_python), str(ROOT / "bench" / "overhead" / "bare.py"), str(master), str(text), str(output), *numbers]
    started = time.monotonic()
    process = subprocess.Popen(command, env=_ml_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"the bare script ended with status {status}")
    return Cost(time.monotonic() - started, usage.ru_maxrss * 1024 / 1e6)


def _succeeded(measured: Measured, job_id: str) -> Job:
    job = measured.client.jobs.wait(job_id, JOB_TIMEOUT_S, poll_s=POLL_S)
    if job.status is not JobStatus.SUCCEEDED:
        raise RuntimeError(f"job {job_id} ended as {job.status}: {job.message}")
    return job


def _run_ml(ml_python: Path, script: str, *arguments: str) -> str:
    first = [script] if script == "-c" else [str(ROOT / "bench" / "overhead" / script)]
    finished = subprocess.run([str(ml_python), *first, *arguments], env=_ml_environment(), check=True, capture_output=True, text=True)
    return finished.stdout


def _ml_environment() -> dict[str, str]:
    # As many threads as the platform gives a child of a worker with one slot.
    threads = str(len(os.sched_getaffinity(0)))
    return {**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


if __name__ == "__main__":
    sys.exit(main())
