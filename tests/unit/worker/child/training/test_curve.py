"""What is told of a run's steps."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from quantry_worker.child.training.curve import CURVE_FILE, MAX_SENT, NUM_FIRST_STEPS, finite, is_sent, values_of, write_curve


@pytest.mark.parametrize("num_steps", [1, 200, 201, 1999, 2000, 2001, 5000, 123_457])
def test_long_runs_are_thinned_and_begin_and_end_are_told(num_steps: int) -> None:
    sent = [step for step in range(1, num_steps + 1) if is_sent(step, num_steps)]
    assert sent[:NUM_FIRST_STEPS] == list(range(1, min(num_steps, NUM_FIRST_STEPS) + 1))
    assert sent[-1] == num_steps
    assert len(sent) <= MAX_SENT
    assert len(sent) >= min(num_steps, MAX_SENT // 2)


def test_names_are_ours_and_what_is_no_number_is_left_out() -> None:
    values = values_of({"loss": 2.0, "rewards/margins": math.nan, "entropy": 1.0, "eval_loss": "x"})
    assert values.keys() == {"loss", "reward_margin"}
    assert finite(values) == {"loss": 2.0}


def test_the_curve_has_every_step_and_measurement_but_not_the_summary(tmp_path: Path) -> None:
    history = [
        {"loss": 3.0, "epoch": 0.5, "step": 1},
        {"eval_loss": 2.5, "epoch": 0.5, "step": 1},
        {"train_runtime": 1.0, "epoch": 0.5, "step": 1},
    ]
    write_curve(tmp_path, history)
    lines = [json.loads(line) for line in (tmp_path / CURVE_FILE).read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 3.0, "epoch": 0.5}, {"step": 1, "eval_loss": 2.5, "epoch": 0.5}]
