"""Curves of training jobs: points out of events, one line where several attempts drew it, and fewer points where there are too many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

STEP = "step"
"""The key of a metrics event's data that is no metric."""

LOSS = "loss"
EVAL_LOSS = "eval_loss"
LEARNING_RATE = "learning_rate"
TOKENS_PER_S = "tokens_per_s"

MAX_METRICS_PER_POINT = 64
MAX_CURVE_POINTS = 10_000
"""Of one answer."""


class CurvePoint(BaseModel):
    """What was measured at one optimizer step."""

    model_config = ConfigDict(frozen=True)

    step: int = Field(ge=0)
    attempt: int
    values: dict[str, float] = Field(description="By name: loss, learning_rate, grad_norm, tokens_per_s, eval_loss.")
    created_at: datetime


class JobCurve(BaseModel):
    """How a training job went, by step. Steps that a later attempt did again are told of that attempt alone."""

    model_config = ConfigDict(frozen=True)

    object: Literal["job.curve"] = "job.curve"
    job_id: str
    num_points: int = Field(description="That there are; data has fewer where they were thinned.")
    data: list[CurvePoint]


def read_metrics(data: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """Returns the step and the metrics of a metrics event; raises ValueError for data that no such event can have."""
    step = data.get(STEP)
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**31:
        raise ValueError(f"{STEP} is a whole number from 0 up to 2^31 - 1, not {step!r}")
    values = {name: value for name, value in data.items() if name != STEP}
    if not 1 <= len(values) <= MAX_METRICS_PER_POINT:
        raise ValueError(f"there are 1 to {MAX_METRICS_PER_POINT} metrics of a step, not {len(values)}")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"{name[:64]} is a finite number, not {value!r}")
    return step, {name: float(value) for name, value in values.items()}


def join_attempts(points: Iterable[CurvePoint]) -> list[CurvePoint]:
    """Returns points, given in the order they were told, as one line by step.

    Where an attempt began is where those before it count no more: what they did beyond its checkpoint was done again.
    Points of one attempt and one step become one.
    """
    line: list[CurvePoint] = []
    for point in points:
        if line and point.attempt > line[-1].attempt:
            line = [kept for kept in line if kept.step < point.step]
        if line and line[-1].step == point.step:
            line[-1] = line[-1].model_copy(update={"values": line[-1].values | point.values})
        else:
            line.append(point)
    return line


def thin(line: Sequence[CurvePoint], max_points: int) -> list[CurvePoint]:
    """Returns at most ``max_points`` (2 at least) of the points, evenly chosen, with the first and the last among them.

    Those with an eval_loss come before the others: there are few of them, and none lies beside another.
    """
    if len(line) <= max_points:
        return list(line)
    chosen = {0, len(line) - 1}
    measured = [index for index, point in enumerate(line) if EVAL_LOSS in point.values and index not in chosen]
    chosen.update(_evenly(measured, (max_points - len(chosen)) // 2))
    rest = [index for index in range(len(line)) if index not in chosen]
    chosen.update(_evenly(rest, max_points - len(chosen)))
    return [line[index] for index in sorted(chosen)]


def _evenly(indices: Sequence[int], number: int) -> list[int]:
    """Returns at most ``number`` of the indices, spread over all of them."""
    if number <= 0:
        return []
    if len(indices) <= number:
        return list(indices)
    return [indices[position * len(indices) // number] for position in range(number)]
