"""What the page of a training job draws and says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from quantry_core.jobs import CurvePoint, JobCheckpoint
from quantry_dashboard.curves import CHECKPOINT_HEADINGS, chart_options, checkpoint_texts, curve_text, newest

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def point(step: int, values: dict[str, float]) -> CurvePoint:
    return CurvePoint(step=step, attempt=1, values=values, created_at=NOW)


POINTS = [
    point(1, {"loss": 3.0, "learning_rate": 1e-4}),
    point(2, {"loss": 2.31415, "learning_rate": 2e-4, "tokens_per_s": 2500.0}),
    point(2, {"eval_loss": 2.5}),
]


def test_each_metric_is_a_line_of_the_steps_that_have_it() -> None:
    lines = {line["name"]: line for line in chart_options(POINTS)["series"]}
    assert {name: line["data"] for name, line in lines.items()} == {
        "loss": [[1, 3.0], [2, 2.31415]],
        "eval loss": [[2, 2.5]],
        "learning rate": [[1, 1e-4], [2, 2e-4]],
    }
    assert [lines[name].get("yAxisIndex", 0) for name in ("loss", "eval loss", "learning rate")] == [0, 0, 1]


def test_the_newest_of_each_metric_is_said() -> None:
    assert newest(POINTS) == {"step": 2, "loss": 2.31415, "learning_rate": 2e-4, "tokens_per_s": 2500.0, "eval_loss": 2.5}
    assert curve_text(POINTS) == "step 2 · loss 2.314 · eval loss 2.5 · learning rate 0.0002 · tokens/s 2500"
    assert (newest([]), curve_text([])) == ({}, "")


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, ("20", "1", "2.5 MB", "kept", "2.314")),
        ({"attempt": 0, "has_files": False}, ("20", "an earlier job's", "2.5 MB", "gone", "2.314")),
        ({"metrics": {"eval_loss": 1.5}}, ("20", "1", "2.5 MB", "kept", "1.5")),
        ({"metrics": {}}, ("20", "1", "2.5 MB", "kept", "–")),
    ],
)
def test_a_checkpoint_is_a_row(changes: dict[str, Any], texts: tuple[str, ...]) -> None:
    whole = {"job_id": "job_1", "step": 20, "attempt": 1, "size_bytes": 2_500_000, "metrics": {"loss": 2.31415}, "has_files": True}
    row = checkpoint_texts(JobCheckpoint.model_validate(whole | {"created_at": NOW} | changes))
    assert row == (*texts, "2026-11-22 12:00:00 UTC")
    assert len(row) == len(CHECKPOINT_HEADINGS)
