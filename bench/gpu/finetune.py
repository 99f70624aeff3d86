"""``python -m bench.gpu.finetune``: LoRA beside QLoRA on a GPU, peak device memory and tokens per second of both. About five minutes.

The model has a usual shape and random weights: what is measured depends on shapes alone. Both are trained by the job's own recipe in a
process of its own, as a worker does. With a GPU it writes bench/results/gpu/finetune.json and .md; without one it prints the rates
alone and writes nothing, so that ``--shape tiny`` tries the script anywhere.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.child import ML_PYTHON, ml_versions, run, text
from bench.embedded import ROOT
from bench.report import Row, publish, row
from quantry_core.jobs import FinetuneSpec, InputRole
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.protocol import ChildInput

EXAMPLE = ROOT / "examples" / "bard-6m"
TEXT, HELD_OUT = "jargon.train", "jargon.calibration"
LORA, QLORA = "LoRA", "QLoRA nf4"
PRECISIONS = {LORA: None, QLORA: "nf4"}
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes")


class Shape(NamedTuple):
    """A model, and what one step sees of it."""

    config: Mapping[str, int]
    """Fields of LlamaConfig."""
    num_steps: int
    batch_size: int
    sequence_tokens: int


SHAPES = {
    # 24 layers of 19.7 million and tied embeddings of 41 million: 0.51 billion parameters.
    "0.5b": Shape(
        {
            "hidden_size": 1280,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 20,
            "num_key_value_heads": 4,
            "vocab_size": 32_000,
            "max_position_embeddings": 2048,
        },
        num_steps=60,
        batch_size=8,
        sequence_tokens=512,
    ),
    "tiny": Shape(
        {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 4096,
            "max_position_embeddings": 128,
        },
        num_steps=3,
        batch_size=2,
        sequence_tokens=64,
    ),
}


class Made(NamedTuple):
    """A random model, and where it will be trained."""

    directory: Path
    num_parameters: int
    gpu: str
    """Its name; empty where there is none."""


class Cost(NamedTuple):
    """What a training took."""

    tokens_per_s: float
    peak_vram_bytes: int | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains both ways and prints the table; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.finetune", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    name = parser.parse_args(arguments).shape
    scratch = Path(tempfile.mkdtemp(prefix="quantry-gpu-"))
    try:
        made = make_model(scratch / "model", SHAPES[name])
        costs = {way: train(scratch / way.replace(" ", "-"), made, SHAPES[name], precision) for way, precision in PRECISIONS.items()}
    finally:
        shutil.rmtree(scratch)
    rows = rows_of(costs, made)
    if not made.gpu:
        for one in rows:
            print(f"{one.name}: {one.value:.4g} {one.unit}, {one.ratio:.2f} of {one.floor}")
        print("There is no GPU here: nothing was written.")
        return 0
    details = {
        "gpu": made.gpu,
        "num_parameters": made.num_parameters,
        "shape": SHAPES[name]._asdict(),
        "spec": spec(SHAPES[name], None).model_dump(mode="json"),
        "costs": {way: cost._asdict() for way, cost in costs.items()},
    }
    publish(f"gpu/{_file_name(name)}", f"LoRA and QLoRA on {made.gpu}, {name}", rows, libraries=ml_versions(*LIBRARIES), details=details)
    return 0


def make_model(directory: Path, shape: Shape) -> Made:
    """Writes a random model of a shape."""
    script = ROOT / "bench" / "gpu" / "make_model.py"
    command = [str(ML_PYTHON), str(script), str(EXAMPLE), str(directory), json.dumps(dict(shape.config))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    return Made(directory, int(said[0]), said[1])


def spec(shape: Shape, base_precision: str | None) -> FinetuneSpec:
    """Returns what both trainings are asked for; only the precision of the base differs."""
    return FinetuneSpec.model_validate(
        {
            "model": "random@1",
            "training_file": TEXT,
            "validation_file": HELD_OUT,
            "base_precision": base_precision,
            "hyperparameters": {
                "max_steps": shape.num_steps,
                "n_epochs": 100,
                "batch_size": shape.batch_size,
                "sequence_tokens": shape.sequence_tokens,
            },
            "validation": {"max_rows": 8},
            "checkpoint_every_steps": shape.num_steps,
        }
    )


def train(directory: Path, made: Made, shape: Shape, base_precision: str | None) -> Cost:
    """Returns what one child took; raises RuntimeError if it failed."""
    directory.mkdir()
    base = ChildInput(
        role=InputRole.BASE,
        id="ver_1",
        ref="random@1",
        kind=VersionKind.MASTER,
        format=Format.SAFETENSORS,
        path=made.directory,
    )
    texts = [text(InputRole.TRAINING, directory, TEXT), text(InputRole.VALIDATION, directory, HELD_OUT)]
    result, _ = run(directory / "attempt", spec(shape, base_precision), [base, *texts])
    return Cost(result.metrics["tokens_per_s"], result.peak_vram_bytes)


def rows_of(costs: Mapping[str, Cost], made: Made) -> list[Row]:
    """Returns QLoRA's figures beside LoRA's; memory where there is a GPU that could say it."""
    size = f"{made.num_parameters / 1e9:.2g} billion parameters"
    lora, qlora = costs[LORA], costs[QLORA]
    rows = [
        row(
            f"{QLORA}: tokens a second, {size}",
            qlora.tokens_per_s,
            lora.tokens_per_s,
            "/s",
            floor=f"{LORA} on 16 bits, same steps",
            bound="weights are unpacked in every pass",
        )
    ]
    if qlora.peak_vram_bytes is not None and lora.peak_vram_bytes is not None:
        rows.append(
            row(
                f"{QLORA}: peak device memory, {size}",
                qlora.peak_vram_bytes / 1e9,
                lora.peak_vram_bytes / 1e9,
                "GB",
                goal="< 1",
                floor=f"{LORA} on 16 bits, same steps",
                bound="activations and logits are the same; weights of linear modules take a quarter",
            )
        )
    return rows


def _file_name(shape: str) -> str:
    return "finetune" if shape == "0.5b" else f"finetune-{shape}"


if __name__ == "__main__":
    sys.exit(main())
