"""``python -m bench.jargon``: prints the table and writes bench/results/jargon.json and .md. Takes about a quarter of an hour.

The example model has never seen the Jargon File. It learns its training part by the job's own recipe, and is scored on the test part,
which no step sees, and on the texts that the model comes from: what was forgotten.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.embedded import ROOT
from bench.report import Row, publish, row, versions
from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import FinetuneSpec, InputRole
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.protocol import EVENTS_FD_VARIABLE, ChildInput, ChildResult, ChildTask, parse_event

EXAMPLES = ROOT / "examples"
ML_PYTHON = ROOT / ".venvs" / "ml" / "bin" / "python"
NUM_STEPS, BATCH_SIZE, SEQUENCE_TOKENS, LEARNING_RATE, RANK = 300, 8, 256, 3e-3, 16
UNTOUCHED = ("kjv.test", "shakespeare.test", "speeches.test")
QLORA_GOAL = 1.03
"""Perplexity of QLoRA over that of LoRA."""


@dataclass(frozen=True)
class Trained:
    """One training: perplexity on the test part before and after, on untouched text before and after, and what it took."""

    before: float
    after: float
    untouched: dict[str, tuple[float, float]]
    metrics: dict[str, Any]


def main() -> int:
    """Trains twice and compares; returns 0 if QLoRA is within the goal, else 1."""
    scratch = Path(tempfile.mkdtemp(prefix="quantry-jargon-"))
    try:
        found = {"LoRA": train(scratch / "lora", None), "QLoRA nf4": train(scratch / "qlora", "nf4")}
    finally:
        shutil.rmtree(scratch)
    rows = [one for name, trained in found.items() for one in rows_of(name, trained)]
    ratio = found["QLoRA nf4"].after / found["LoRA"].after
    rows.append(
        row(
            "QLoRA nf4 beside LoRA: perplexity of jargon.test",
            found["QLoRA nf4"].after,
            found["LoRA"].after,
            "",
            goal=f"<= {QLORA_GOAL}",
            floor="LoRA on the 16-bit master, same seed and steps",
            bound="weights of 4 bits",
        )
    )
    publish(
        "jargon",
        "A new domain: LoRA on 16 bits and QLoRA on 4",
        rows,
        libraries=versions("pydantic"),
        details={"spec": spec(None).model_dump(mode="json"), "jobs": {name: one.metrics for name, one in found.items()}},
    )
    return 0 if ratio <= QLORA_GOAL else 1


def spec(base_precision: str | None) -> FinetuneSpec:
    """Returns what both trainings are asked for; only the precision of the base differs."""
    return FinetuneSpec.model_validate(
        {
            "model": "bard-6m",
            "training_file": "jargon.train",
            "validation_file": "jargon.test",
            "base_precision": base_precision,
            "adapter": {"rank": RANK, "alpha": 2 * RANK},
            "hyperparameters": {
                "max_steps": NUM_STEPS,
                "n_epochs": 10,
                "batch_size": BATCH_SIZE,
                "sequence_tokens": SEQUENCE_TOKENS,
                "learning_rate": LEARNING_RATE,
                "schedule": "cosine",
            },
            "validation": {"every_steps": NUM_STEPS // 3, "max_rows": 256},
            "checkpoint_every_steps": NUM_STEPS,
        }
    )


def rows_of(name: str, trained: Trained) -> list[Row]:
    """Returns perplexities after beside those before."""
    learned = row(
        f"{name}: perplexity of jargon.test",
        trained.after,
        trained.before,
        "",
        floor="the base, before",
        bound=f"{NUM_STEPS} steps of {BATCH_SIZE * SEQUENCE_TOKENS} tokens",
    )
    forgotten = [
        row(f"{name}: perplexity of {text}", after, before, "", floor="the base, before", bound="what was forgotten")
        for text, (before, after) in trained.untouched.items()
    ]
    return [learned, *forgotten]


def train(directory: Path, base_precision: str | None) -> Trained:
    """Returns what one child made of it; raises RuntimeError if it failed."""
    folders = {f"{name}_dir": directory / name for name in ("output", "artifacts", "checkpoints")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    base = ChildInput(
        role=InputRole.BASE,
        id="ver_1",
        ref="bard-6m@1",
        kind=VersionKind.MASTER,
        format=Format.SAFETENSORS,
        path=EXAMPLES / "bard-6m",
    )
    texts = [(InputRole.TRAINING, "jargon.train"), (InputRole.VALIDATION, "jargon.test"), *((InputRole.CORPUS, one) for one in UNTOUCHED)]
    inputs = [base, *(_text(directory, role, name) for role, name in texts)]
    threads = len(os.sched_getaffinity(0))
    task = ChildTask(job_id="job_1", attempt=1, spec=spec(base_precision), inputs=inputs, import_roots=[], num_threads=threads, **folders)
    result = _run(directory, task)
    validation = result.metrics["validation"]
    untouched = {ref.partition("@")[0]: (one["reference_perplexity"], one["perplexity"]) for ref, one in result.metrics["corpora"].items()}
    return Trained(validation["reference_perplexity"], validation["perplexity"], untouched, result.metrics)


def _run(directory: Path, task: ChildTask) -> ChildResult:
    task_file = directory / "task.json"
    task_file.write_text(task.model_dump_json())
    reader, writer = os.pipe()
    environment = {**os.environ, EVENTS_FD_VARIABLE: str(writer), "HF_HUB_OFFLINE": "1"}
    with (directory / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            [ML_PYTHON, "-m", "quantry_worker.child", task_file], pass_fds=[writer], env=environment, stdout=log, stderr=log
        )
    os.close(writer)
    with os.fdopen(reader, "rb") as events:
        said = [parse_event(line) for line in events]
    child.wait()
    if not said or not isinstance(said[-1], ChildResult):
        raise RuntimeError(f"the training ended with {said[-1:]}")
    return said[-1]


def _text(directory: Path, role: InputRole, name: str) -> ChildInput:
    path = directory / name
    path.mkdir()
    shutil.copyfile(EXAMPLES / "corpora" / f"{name}.txt", path / DATASET_FILES[DatasetKind.TEXT])
    return ChildInput(role=role, id="dat_1", ref=f"{name}@1", dataset_kind=DatasetKind.TEXT, path=path)


if __name__ == "__main__":
    sys.exit(main())
