"""Curves: points out of events, one line of several attempts, and fewer points."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.jobs import EVAL_LOSS, LOSS, CurvePoint, join_attempts, read_metrics, thin

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def point(step: int, attempt: int = 1, **values: float) -> CurvePoint:
    return CurvePoint(step=step, attempt=attempt, values=values or {LOSS: float(step)}, created_at=NOW)


def measured(step: int, name: str) -> CurvePoint:
    return CurvePoint(step=step, attempt=1, values={name: 1.0}, created_at=NOW)


def test_an_event_is_read() -> None:
    assert read_metrics({"step": 7, "loss": 2, "learning_rate": 1e-4}) == (7, {"loss": 2.0, "learning_rate": 1e-4})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"loss": 1.0}, "step is a whole number"),
        ({"step": True, "loss": 1.0}, "step is a whole number"),
        ({"step": 2**31, "loss": 1.0}, "step is a whole number"),
        ({"step": 1}, "1 to 64 metrics"),
        ({"step": 1, **{f"m{n}": 1.0 for n in range(65)}}, "not 65"),
        ({"step": 1, "loss": float("inf")}, "loss is a finite number"),
        ({"step": 1, "loss": None}, "loss is a finite number"),
        ({"step": 1, "loss": False}, "loss is a finite number"),
    ],
)
def test_what_is_no_event_of_metrics_is_refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_metrics(data)


def test_an_attempt_takes_the_place_of_what_was_beyond_its_checkpoint() -> None:
    told = [point(1), point(2), point(3), point(4), point(3, 2, loss=0.3), point(4, 2, loss=0.4), point(5, 2, loss=0.5)]
    line = join_attempts(told)
    assert [(one.step, one.attempt) for one in line] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


def test_an_attempt_that_began_anew_is_all_there_is() -> None:
    assert [(one.step, one.attempt) for one in join_attempts([point(1), point(2), point(1, 3)])] == [(1, 3)]


def test_what_was_measured_at_one_step_is_one_point() -> None:
    line = join_attempts([point(2, loss=1.0), point(2, eval_loss=1.5), point(3, loss=0.9)])
    assert [one.values for one in line] == [{"loss": 1.0, "eval_loss": 1.5}, {"loss": 0.9}]


def test_thinning_keeps_the_ends_and_what_was_held_out() -> None:
    line = [measured(step, LOSS if step % 100 else EVAL_LOSS) for step in range(1, 1001)]
    thinned = thin(line, 50)
    assert len(thinned) == 50
    assert (thinned[0], thinned[-1]) == (line[0], line[-1])
    assert [one.step for one in thinned if EVAL_LOSS in one.values] == list(range(100, 1001, 100))
    gaps = [after.step - before.step for before, after in pairwise(thinned)]
    assert max(gaps) < 60, "evenly chosen"


@given(st.lists(st.booleans(), max_size=80), st.integers(2, 40))
def test_thinning_never_gives_more_than_was_asked_for(held_out: list[bool], max_points: int) -> None:
    line = [measured(step, EVAL_LOSS if is_held_out else LOSS) for step, is_held_out in enumerate(held_out)]
    thinned = thin(line, max_points)
    assert len(thinned) == min(len(line), max_points)
    assert [one.step for one in thinned] == sorted({one.step for one in thinned})
    assert thinned[:1] == line[:1]
    assert thinned[-1:] == line[-1:]
