"""``python -m bench.finetune``: prints the table and writes bench/results/finetune.json and .md. Takes about ten minutes.

The job is trained twice, side by side with the bare script: by a platform that has all its services on the same cores, and by its
child alone, as a worker on a machine of its own would have it but for the supervisor.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.child import ml_versions, run, text
from bench.embedded import ROOT, Measured, embedded_stack
from bench.report import Row, middle, publish, row, versions
from quantry_core.jobs import FinetuneSpec, Hyperparameters, ImportSpec, InputRole, Job, JobStatus, ValidationSpec
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.protocol import ChildInput

MODEL, TEXT, HELD_OUT = "bard-6m", "jargon.train", "jargon.test"
NUM_REPETITIONS = 3
BATCH_SIZE, LENGTH_TOKENS, NUM_STEPS, LEARNING_RATE = 8, 256, 60, 1e-3
JOB_TIMEOUT_S = 1800.0
POLL_S = 5.0
"""Between two questions of this script: they take time of the cores that train, and the job's own times are what counts."""
LIBRARIES = ("celery", "fastapi", "sqlalchemy", "minio")
ML_LIBRARIES = ("torch", "transformers", "trl", "peft")
SPEC = FinetuneSpec(
    model=f"{MODEL}@1",
    training_file=TEXT,
    validation_file=HELD_OUT,
    hyperparameters=Hyperparameters(
        max_steps=NUM_STEPS, batch_size=BATCH_SIZE, sequence_tokens=LENGTH_TOKENS, learning_rate=LEARNING_RATE, warmup_ratio=0.0
    ),
    validation=ValidationSpec(max_rows=32),
    checkpoint_every_steps=20,
)


@dataclass(frozen=True)
class Cost:
    """One run: tokens a second while it trained, wall-clock seconds of all of it, and the highest resident memory in MB."""

    tokens_per_s: float
    wall_s: float
    peak_mb: float


def main() -> int:
    """Runs bare script, child and platform in turn; returns 0."""
    ml_python = ROOT / ".venvs" / "ml" / "bin" / "python"
    bare, platform, alone = [], [], []
    for _ in range(NUM_REPETITIONS):
        with tempfile.TemporaryDirectory(prefix="quantry-bench-") as folder:
            bare.append(_bare(ml_python, Path(folder) / "bare"))
            alone.append(_alone(Path(folder) / "alone"))
        with embedded_stack({"QUANTRY_WORKER_SLOTS": "1"}) as measured:
            _fill(measured)
            platform.append(_platform(measured))
    details = {
        "batch_size": BATCH_SIZE,
        "length_tokens": LENGTH_TOKENS,
        "num_steps": NUM_STEPS,
        "bare": [vars(cost) for cost in bare],
        "platform": [vars(cost) for cost in platform],
        "child_alone_tokens_per_s": alone,
        "ml": ml_versions(*ML_LIBRARIES),
    }
    publish(
        "finetune", "What the platform adds to a fine-tune", _rows(bare, platform, alone), libraries=versions(*LIBRARIES), details=details
    )
    return 0


def _rows(bare: list[Cost], platform: list[Cost], alone: list[float]) -> list[Row]:
    peer = "a bare TRL script: same model, adapter, text, batches; nothing held out, checkpointed or stored"
    return [
        row(
            "tokens a second while training",
            middle([cost.tokens_per_s for cost in platform]),
            middle([cost.tokens_per_s for cost in bare]),
            "/s",
            goal=">= 0.95",
            floor=peer,
            bound="the services of the platform on the same cores: each that wakes for a moment makes all threads wait",
        ),
        row(
            "the same, of the job's child alone",
            middle(alone),
            middle([cost.tokens_per_s for cost in bare]),
            "/s",
            floor=peer,
            bound="forward and backward passes on the CPU; a checkpoint every 20 steps, and the curve of every step",
        ),
        row(
            "wall clock of a fine-tune",
            middle([cost.wall_s for cost in platform]),
            middle([cost.wall_s for cost in bare]),
            "s",
            floor=peer,
            bound="what was held out is measured before and after; every file is hashed and sealed",
        ),
        row(
            "peak memory of a fine-tune, supervisor included",
            middle([cost.peak_mb for cost in platform]),
            middle([cost.peak_mb for cost in bare]),
            "MB",
            floor=peer,
            bound="the same model, adapter, activations and libraries, and a supervisor without torch",
        ),
    ]


def _platform(measured: Measured) -> Cost:
    """Returns what one fine-tune job cost, from its submission to its end."""
    (worker,) = (part for part in measured.stack.status() if part.name == "worker")
    (supervisor,) = psutil.Process(worker.pid).children()
    job = _succeeded(measured, measured.client.jobs.submit(SPEC, force=True).id)
    if job.finished_at is None or job.result is None or job.result.peak_memory_bytes is None:
        raise RuntimeError("the job says neither when it ended nor what it used")
    peak_bytes = job.result.peak_memory_bytes + supervisor.memory_info().rss
    wall_s = (job.finished_at - job.created_at).total_seconds()
    return Cost(job.result.metrics["tokens_per_s"], wall_s, peak_bytes / 1e6)


def _fill(measured: Measured) -> None:
    """Brings model and texts into a platform."""
    _succeeded(measured, measured.client.jobs.submit(ImportSpec(model=MODEL, source=str(ROOT / "examples" / MODEL))).id)
    for name in (TEXT, HELD_OUT):
        measured.client.datasets.upload(name, ROOT / "examples" / "corpora" / f"{name}.txt")


def _alone(directory: Path) -> float:
    """Returns the tokens a second of the job's child with nothing beside it."""
    master = ROOT / "examples" / MODEL
    base = ChildInput(role=InputRole.BASE, id="ver_1", ref=f"{MODEL}@1", kind=VersionKind.MASTER, format=Format.SAFETENSORS, path=master)
    texts = [text(role, directory, name) for role, name in ((InputRole.TRAINING, TEXT), (InputRole.VALIDATION, HELD_OUT))]
    result, _ = run(directory, SPEC, [base, *texts])
    tokens_per_s: float = result.metrics["tokens_per_s"]
    return tokens_per_s


def _bare(ml_python: Path, output: Path) -> Cost:
    """Returns what the bare script cost."""
    shutil.rmtree(output, ignore_errors=True)
    corpus = ROOT / "examples" / "corpora" / f"{TEXT}.txt"
    numbers = [str(number) for number in (BATCH_SIZE, LENGTH_TOKENS, NUM_STEPS, LEARNING_RATE)]
    script = ROOT / "bench" / "finetune" / "bare.py"
    command = [str(ml_python), str(script), str(ROOT / "examples" / MODEL), str(corpus), str(output), *numbers]
    # As many threads as the platform gives a child of a worker with one slot.
    threads = str(len(os.sched_getaffinity(0)))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        if status != 0:
            raise RuntimeError(f"the bare script ended with status {status}")
        said.seek(0)
        tokens_per_s = json.loads(said.read().splitlines()[-1])["tokens_per_s"]
    return Cost(tokens_per_s, wall_s, usage.ru_maxrss * 1024 / 1e6)


def _succeeded(measured: Measured, job_id: str) -> Job:
    job = measured.client.jobs.wait(job_id, JOB_TIMEOUT_S, poll_s=POLL_S)
    if job.status is not JobStatus.SUCCEEDED:
        raise RuntimeError(f"job {job_id} ended as {job.status}: {job.message}")
    return job


if __name__ == "__main__":
    sys.exit(main())
