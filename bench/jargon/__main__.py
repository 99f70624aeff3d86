"""``python -m bench.jargon``: prints the table and writes bench/results/jargon.json and .md. Takes about a quarter of an hour.

The example model has never seen the Jargon File. It learns its training part by the job's own recipe, and is scored on the test part,
which no step sees and by which no weights are chosen, and on the texts that the model comes from: what was forgotten.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.child import ml_versions, run, text
from bench.embedded import ROOT
from bench.report import Row, publish, row
from quantry_core.jobs import FinetuneSpec, InputRole
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.protocol import ChildInput

NUM_STEPS, BATCH_SIZE, SEQUENCE_TOKENS, LEARNING_RATE, RANK = 300, 8, 256, 3e-3, 16
TRAINING, VALIDATION, TEST = "jargon.train", "jargon.calibration", "jargon.test"
"""The second chooses the best weights; nothing looks at the third before the end."""
UNTOUCHED = ("kjv.test", "shakespeare.test", "speeches.test")
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes")
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
            f"QLoRA nf4 beside LoRA: perplexity of {TEST}",
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
        libraries=ml_versions(*LIBRARIES),
        details={"spec": spec(None).model_dump(mode="json"), "jobs": {name: one.metrics for name, one in found.items()}},
    )
    return 0 if ratio <= QLORA_GOAL else 1


def spec(base_precision: str | None) -> FinetuneSpec:
    """Returns what both trainings are asked for; only the precision of the base differs."""
    return FinetuneSpec.model_validate(
        {
            "model": "bard-6m",
            "training_file": TRAINING,
            "validation_file": VALIDATION,
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
        f"{name}: perplexity of {TEST}",
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
    base = ChildInput(
        role=InputRole.BASE,
        id="ver_1",
        ref="bard-6m@1",
        kind=VersionKind.MASTER,
        format=Format.SAFETENSORS,
        path=ROOT / "examples" / "bard-6m",
    )
    texts = [(InputRole.TRAINING, TRAINING), (InputRole.VALIDATION, VALIDATION), *((InputRole.CORPUS, one) for one in (TEST, *UNTOUCHED))]
    result, _ = run(directory, spec(base_precision), [base, *(text(role, directory, name) for role, name in texts)])
    scored = {ref.partition("@")[0]: (one["reference_perplexity"], one["perplexity"]) for ref, one in result.metrics["corpora"].items()}
    before, after = scored.pop(TEST)
    return Trained(before, after, scored, result.metrics)


if __name__ == "__main__":
    sys.exit(main())
