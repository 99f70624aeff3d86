"""What is told of each step: the trainers' names in ours, thinned so that a long run does not flood the job's events."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NUM_FIRST_STEPS = 200
"""Steps that are all sent."""
MAX_SENT = 2000
CURVE_FILE = "curve.jsonl"

NAMES: dict[str, str] = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "tokens_per_s": "tokens_per_s",
    "epoch": "epoch",
    "eval_loss": "eval_loss",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "reward": "reward_mean",
    "kl": "kl",
    "eval_rewards/margins": "eval_reward_margin",
    "eval_rewards/accuracies": "eval_reward_accuracy",
    "eval_reward": "eval_reward_mean",
    "eval_kl": "eval_kl",
}
"""What is kept of what a trainer logs, and what it is called."""
_REWARD = re.compile(r"(eval_)?rewards/(.+)/mean")


def values_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of one log by our names, those that are not finite among them; each reward's mean as ``reward_<its name>``."""
    rewards = {name: f"{found[1] or ''}reward_{found[2]}" for name in logs if (found := _REWARD.fullmatch(name))}
    return {ours: float(logs[theirs]) for theirs, ours in (NAMES | rewards).items() if isinstance(logs.get(theirs), int | float)}


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Returns those that are finite numbers."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def is_sent(step: int, num_steps: int) -> bool:
    """Tells whether a step's numbers are sent: the first 200, the last, and of the others so many that there are at most 2,000."""
    if step <= NUM_FIRST_STEPS or step == num_steps:
        return True
    every = math.ceil(max(num_steps - NUM_FIRST_STEPS, 1) / (MAX_SENT - NUM_FIRST_STEPS - 1))
    return step % every == 0


def write_curve(directory: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Writes every step and every measurement of a run, one object a line with ``step``."""
    with (directory / CURVE_FILE).open("w", encoding="utf-8") as file:
        for logs in history:
            values = finite(values_of(logs))
            if values.keys() - {"epoch"}:
                file.write(json.dumps({"step": int(logs["step"])} | values) + "\n")
