"""What the page of a training job draws and says of its curve: pure functions from points to a chart's options and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quantry_core.jobs import EVAL_LOSS, LEARNING_RATE, LOSS, TOKENS_PER_S, CurvePoint, JobCheckpoint
from quantry_dashboard import words
from quantry_dashboard.chart_parts import AMBER, BLUE, GREY, TEXT_STYLE, axis

_NAMES = {LOSS: "loss", EVAL_LOSS: "eval loss", LEARNING_RATE: "learning rate", TOKENS_PER_S: "tokens/s"}


def chart_options(points: Sequence[CurvePoint]) -> dict[str, Any]:
    """Returns the options of an ECharts chart: loss and eval loss by step, and the learning rate on an axis of its own to the right."""
    return {
        "animation": False,
        "grid": {"left": 52, "right": 64, "top": 34, "bottom": 40},
        "legend": {"top": 0, "textStyle": TEXT_STYLE},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "xAxis": {"type": "value", "name": "step", "nameLocation": "middle", "nameGap": 24, "min": "dataMin", "max": "dataMax", **axis()},
        "yAxis": [{"type": "value", "scale": True, **axis()}, {"type": "value", "splitLine": {"show": False}, **axis(drawn=False)}],
        "series": [
            _series(points, LOSS, BLUE, {"showSymbol": False}),
            _series(points, EVAL_LOSS, AMBER, {"symbolSize": 6}),
            _series(points, LEARNING_RATE, GREY, {"showSymbol": False, "yAxisIndex": 1, "lineStyle": {"type": "dashed", "width": 1}}),
        ],
    }


def newest(points: Sequence[CurvePoint]) -> dict[str, float]:
    """Returns the last value of each metric, with the step that was done last as ``step``; empty where there are no points."""
    found: dict[str, float] = {}
    for point in points:
        found.update(point.values)
    return found if not points else {"step": points[-1].step, **found}


def curve_text(points: Sequence[CurvePoint]) -> str:
    """Returns where a curve is, in words: ``step 40 · loss 2.314 · eval loss 2.5``."""
    known = newest(points)
    if not known:
        return ""
    figures = [f"{label} {words.number_text(known[name])}" for name, label in _NAMES.items() if name in known]
    return " · ".join([f"step {known['step']:.0f}", *figures])


def checkpoint_texts(checkpoint: JobCheckpoint) -> tuple[str, ...]:
    """Returns a row of the table of checkpoints: step, attempt, size, whether its files are kept, loss, when."""
    loss = checkpoint.metrics.get(LOSS, checkpoint.metrics.get(EVAL_LOSS))
    return (
        str(checkpoint.step),
        "an earlier job's" if checkpoint.attempt == 0 else str(checkpoint.attempt),
        words.bytes_text(checkpoint.size_bytes),
        "kept" if checkpoint.has_files else "gone",
        "–" if loss is None else words.number_text(loss),
        words.moment_text(checkpoint.created_at),
    )


CHECKPOINT_HEADINGS = ("step", "attempt", "size", "files", "loss", "stored")


def _series(points: Sequence[CurvePoint], name: str, colour: str, more: dict[str, Any]) -> dict[str, Any]:
    data = [[point.step, point.values[name]] for point in points if name in point.values]
    return {"name": _NAMES[name], "type": "line", "symbol": "circle", "data": data, "color": colour, **more}
