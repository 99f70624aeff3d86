"""A training that is killed and goes on from its checkpoint, beside one that was left alone: real children, and no tolerance."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from factories.child_runs import MASTER, Ran, checkpoint, start, text
from factories.forked import run
from quantry_core.jobs import FinetuneSpec, InputRole
from quantry_worker.protocol import ChildCheckpoint, ChildInput, ChildMetrics, parse_event

TIMED = {"tokens_per_s"}
"""Of the machine, not of the training."""
KILLED_AFTER_STEP = 8
ADAPTER = "adapter_model.safetensors"


def finetune() -> FinetuneSpec:
    """Two epochs of nine steps with dropout, measured and kept at steps that do not fall together."""
    return FinetuneSpec.model_validate(
        {
            "model": "bard",
            "training_file": "jargon",
            "adapter": {"rank": 4, "dropout": 0.2},
            "seed": 7,
            "hyperparameters": {"n_epochs": 2, "batch_size": 2, "accumulation_steps": 2, "sequence_tokens": 48, "learning_rate": 0.003},
            "validation": {"every_steps": 4, "max_rows": 4, "share": 0.2},
            "checkpoint_every_steps": 5,
        }
    )


def inputs(directory: Path) -> list[ChildInput]:
    return [checkpoint(InputRole.BASE, MASTER), text(InputRole.TRAINING, directory, "jargon.train", 5_500)]


def killed(directory: Path) -> tuple[list[Any], Path]:
    """Starts a child and kills it once it has told of a step that comes after its checkpoint."""
    child, reader = start(directory, finetune(), inputs(directory.with_name("data")))
    told: list[Any] = []
    with os.fdopen(reader, "rb") as events:
        for line in events:
            told.append(parse_event(line))
            if isinstance(told[-1], ChildMetrics) and told[-1].step >= KILLED_AFTER_STEP:
                os.kill(child.pid, signal.SIGKILL)
                break
    assert child.wait(timeout=30) == -signal.SIGKILL
    (kept,) = [event for event in told if isinstance(event, ChildCheckpoint)]
    return told, directory / "checkpoints" / kept.folder


def curve(ran: Ran) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (ran.artifacts_dir / "curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in one.items() if name not in TIMED} for one in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    directory = tmp_path_factory.mktemp("undisturbed")
    return run(directory / "attempt", finetune(), inputs(directory / "data"))


def test_a_killed_training_goes_on_to_the_same_curve_and_the_same_weights(tmp_path: Path, undisturbed: Ran) -> None:
    told, folder = killed(tmp_path / "killed")
    kept = ChildInput(role=InputRole.CHECKPOINT, id="job_1", ref="step 5", path=folder)
    resumed = run(tmp_path / "resumed", finetune(), [*inputs(tmp_path / "more"), kept])

    steps = [event.step for event in resumed.events if isinstance(event, ChildMetrics) and "loss" in event.values]
    assert steps == list(range(6, 6 + len(steps)))
    before_it_was_killed = [event.values["loss"] for event in told if isinstance(event, ChildMetrics) and "loss" in event.values]
    expected = curve(undisturbed)
    assert [one["loss"] for one in expected if "loss" in one][: len(before_it_was_killed)] == before_it_was_killed
    assert len(expected) > 18
    # Bit for bit: losses, learning rates, gradient norms and measurements of both epochs.
    assert curve(resumed) == expected
    ours, theirs = load_file(resumed.output_dir / ADAPTER), load_file(undisturbed.output_dir / ADAPTER)
    assert {name: value.tobytes() for name, value in ours.items()} == {name: value.tobytes() for name, value in theirs.items()}
    for name in ("best_step", "num_steps", "num_tokens"):
        assert resumed.result.metrics[name] == undisturbed.result.metrics[name]


def test_a_training_that_had_ended_is_measured_and_saved_without_another_step(tmp_path: Path, undisturbed: Ran) -> None:
    last = [event for event in undisturbed.events if isinstance(event, ChildCheckpoint)][-1]
    kept = ChildInput(role=InputRole.CHECKPOINT, id="job_1", ref=f"step {last.step}", path=undisturbed.checkpoints_dir / last.folder)
    resumed = run(tmp_path / "resumed", finetune(), [*inputs(tmp_path / "data"), kept])

    assert not [event for event in resumed.events if isinstance(event, ChildMetrics)]
    assert (resumed.output_dir / ADAPTER).read_bytes() == (undisturbed.output_dir / ADAPTER).read_bytes()
    assert resumed.evidence("validation").metrics == undisturbed.evidence("validation").metrics
    assert curve(resumed) == curve(undisturbed)
