"""Two processes that share a training on the CPU, by gloo, beside one that does it alone with batches twice as large."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from factories import forked
from factories.backends import run_python
from factories.child_runs import MASTER, Ran, checkpoint, run, start, text
from quantry_core.jobs import FinetuneSpec, InputRole, JobReason
from quantry_worker.protocol import ChildCheckpoint, ChildInput, ChildMetrics, parse_event

RELATIVE_TOLERANCE = 1e-4
"""Of losses: the same samples are seen in each step, and their gradients added up in another order."""
STEPS = 6


def finetune(batch_size: int, distributed: dict[str, Any] | None) -> FinetuneSpec:
    return FinetuneSpec.model_validate(
        {
            "model": "bard",
            "training_file": "jargon",
            "adapter": {"rank": 4},
            "hyperparameters": {
                "max_steps": STEPS,
                "batch_size": batch_size,
                "sequence_tokens": 48,
                "learning_rate": 0.003,
                "schedule": "constant",
            },
            "validation": {"every_steps": 3, "max_rows": 4, "share": 0.2},
            "checkpoint_every_steps": 3,
            "distributed": distributed,
        }
    )


def inputs(directory: Path) -> list[ChildInput]:
    return [checkpoint(InputRole.BASE, MASTER), text(InputRole.TRAINING, directory, "jargon.train", 12_000)]


def losses(ran: Ran, name: str = "loss") -> dict[int, float]:
    return {event.step: event.values[name] for event in ran.events if isinstance(event, ChildMetrics) and name in event.values}


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    directory = tmp_path_factory.mktemp("shared")
    return run(directory / "attempt", finetune(2, {"strategy": "ddp"}), inputs(directory / "data"))


def test_two_processes_learn_as_one_with_batches_twice_as_large(tmp_path: Path, shared: Ran) -> None:
    alone = run(tmp_path / "alone", finetune(4, None), inputs(tmp_path / "data"))

    assert losses(shared) == pytest.approx(losses(alone), rel=RELATIVE_TOLERANCE)
    assert list(losses(shared)) == list(range(1, STEPS + 1))
    # The trainer takes the mean of batches, whose tokens are not equally many; the evidence takes that of tokens.
    assert losses(shared, "eval_loss") == pytest.approx(losses(alone, "eval_loss"), rel=2e-3)
    ours, theirs = (ran.evidence("validation").metrics for ran in (shared, alone))
    assert ours["perplexity"] == pytest.approx(theirs["perplexity"], rel=RELATIVE_TOLERANCE)
    assert {path.name for path in shared.output_dir.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_two_processes_go_on_from_their_checkpoint(tmp_path: Path) -> None:
    """In the middle of the second epoch, whose samples come in another order than those of the first: an epoch has two steps."""
    given = [checkpoint(InputRole.BASE, MASTER), text(InputRole.TRAINING, tmp_path / "data", "jargon.train", 800)]
    undisturbed = run(tmp_path / "undisturbed", finetune(2, {"strategy": "ddp"}), given)
    assert undisturbed.result.metrics["num_epochs"] == 3
    kept = [event.folder for event in undisturbed.events if isinstance(event, ChildCheckpoint)]
    assert kept[0] == "step-3"
    folder = undisturbed.checkpoints_dir / "step-3"
    # Each process has random numbers of its own.
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in folder.iterdir()}
    place = ChildInput(role=InputRole.CHECKPOINT, id="job_1", ref="step 3", path=folder)
    resumed = run(tmp_path / "resumed", finetune(2, {"strategy": "ddp"}), [*given, place])

    assert losses(resumed) == pytest.approx({step: loss for step, loss in losses(undisturbed).items() if step > 3}, rel=1e-5)


def test_the_others_end_with_the_first(tmp_path: Path) -> None:
    child, reader = start(tmp_path / "killed", finetune(2, {"strategy": "ddp"}), inputs(tmp_path / "data"))
    with os.fdopen(reader, "rb") as events:
        for line in events:
            if isinstance(parse_event(line), ChildMetrics):
                break
        (other,) = children_of(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=30)
    give_up_at = time.monotonic() + 10
    while Path(f"/proc/{other}").exists() and Path(f"/proc/{other}/stat").read_text().split(") ")[1][0] != "Z":
        assert time.monotonic() < give_up_at, "the other process lives on"
        time.sleep(0.05)


def test_shards_are_kept_put_back_and_gathered_whole(tmp_path: Path) -> None:
    said = run_python(Path(__file__).with_name("shard_and_gather.py"), tmp_path)
    alike = {"is_sharded": True, "is_kept_whole": True, "is_whole": True, "is_tied": True}
    assert said == [alike | {"is_nowhere": False, "is_restored": True}, alike | {"is_nowhere": True, "is_restored": False}]


def test_who_has_joined_is_waited_for_longer_than_who_has_not() -> None:
    said = run_python(Path(__file__).with_name("join_processes.py"))
    assert said == {"is_waited_for": [True, True], "is_missed": True}


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed"])
def test_what_cannot_be_on_this_host_is_refused_before_any_work(tmp_path: Path, strategy: str) -> None:
    ran = forked.run(tmp_path / "attempt", finetune(2, {"strategy": strategy}), inputs(tmp_path / "data"))
    assert ran.failure.reason is JobReason.INVALID_INPUT
    assert f"strategy {strategy} shards over GPUs, and this job gets none" in ran.failure.message
    assert not any(isinstance(event, ChildMetrics) for event in ran.events)
