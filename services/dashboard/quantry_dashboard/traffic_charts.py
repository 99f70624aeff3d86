"""What is drawn of both releases of a rollout over time: pure functions from what the API tells to a chart's options and words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from quantry_core.traffic_spans import Estimate, RolloutSpans, SpanFigures
from quantry_dashboard import words
from quantry_dashboard.chart_parts import AMBER, BLUE, DIM, TEXT_STYLE, axis, milliseconds

_COLOURS = {"stable": BLUE, "candidate": AMBER}


@dataclass(frozen=True)
class Drawn:
    """One figure that has a chart."""

    title: str
    figure: Callable[[SpanFigures], Estimate | None]
    text: Callable[[float], str]
    """Returns a value in words."""
    label: str
    """How ECharts writes a value at the axis."""
    scale: float = 1.0
    """What values are multiplied by to be drawn."""


def _percent(value: float) -> str:
    return f"{value:.2%}"


CHARTS = (
    Drawn("Failed", lambda figures: figures.error_rate, _percent, "{value}%", 100.0),
    Drawn("Answer, median", lambda figures: figures.e2e_p50_s, words.latency_text, "{value} s"),
    Drawn("Answer, p95", lambda figures: figures.e2e_p95_s, words.latency_text, "{value} s"),
)


def sides_of(spans: RolloutSpans) -> list[tuple[str, Sequence[SpanFigures]]]:
    """Returns stable and candidate with their spans, of those that have any."""
    both = [("stable", spans.stable or []), ("candidate", spans.candidate)]
    return [(name, figures) for name, figures in both if figures]


def has_figures(spans: RolloutSpans) -> bool:
    """Tells whether there is anything to draw."""
    return bool(sides_of(spans))


def chart_options(drawn: Drawn, spans: RolloutSpans) -> dict[str, Any]:
    """Returns the options of an ECharts chart: a line for each release, and around it, where both ends are known, its 95% interval."""
    sides = sides_of(spans)
    series = [part for name, figures in sides for part in _series(drawn, name, figures)]
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 54, "right": 14, "top": 34, "bottom": 28},
        "legend": {"top": 0, "textStyle": TEXT_STYLE, "data": [name for name, _ in sides]},
        "tooltip": {"trigger": "item", "renderMode": "richText", "confine": True, "formatter": "{b}"},
        "xAxis": {"type": "time", "splitNumber": 4, **_from_and_to(spans), **axis(drawn=False)},
        "yAxis": {"type": "value", "min": 0, "axisLabel": {"color": DIM, "formatter": drawn.label}, **axis(labels=False)},
        "series": series,
    }


def chart_text(drawn: Drawn, spans: RolloutSpans) -> str:
    """Returns what a chart shows in words: the last value of each release with its interval."""
    parts = [f"{drawn.title} of both releases over time, in spans of {spans.span_s} s"]
    for name, figures in sides_of(spans):
        estimate = next((found for found in map(drawn.figure, reversed(figures)) if found is not None), None)
        if estimate is not None:
            parts.append(f"{name} lately {_estimate_text(drawn, estimate)}")
    return "; ".join(parts)


def _from_and_to(spans: RolloutSpans) -> dict[str, float]:
    """Returns the ends of the axis of time: left to itself, ECharts draws two days around a single span."""
    began = [milliseconds(span.began_at) for _, figures in sides_of(spans) for span in figures]
    return {"min": min(began), "max": max(began) + spans.span_s * 1000} if began else {}


def _series(drawn: Drawn, name: str, figures: Sequence[SpanFigures]) -> list[dict[str, Any]]:
    points, low, width = [], [], []
    for span in figures:
        estimate = drawn.figure(span)
        if estimate is None:
            continue
        at = milliseconds(span.began_at)
        said = f"{name}, {words.moment_text(span.began_at)}: {_estimate_text(drawn, estimate)}"
        points.append({"name": said, "value": [at, drawn.scale * estimate.value]})
        is_known = estimate.low is not None and estimate.high is not None
        low.append([at, drawn.scale * (estimate.low or 0.0) if is_known else None])
        width.append([at, drawn.scale * ((estimate.high or 0.0) - (estimate.low or 0.0)) if is_known else None])
    common = {"type": "line", "color": _COLOURS[name]}
    band = {**common, "stack": name, "symbol": "none", "silent": True, "lineStyle": {"opacity": 0}}
    return [
        {**common, "name": name, "symbol": "circle", "symbolSize": 5, "lineStyle": {"width": 2}, "data": points},
        {**band, "name": f"{name} from", "data": low},
        {**band, "name": f"{name} to", "areaStyle": {"color": _COLOURS[name], "opacity": 0.16}, "data": width},
    ]


def _estimate_text(drawn: Drawn, estimate: Estimate) -> str:
    value = drawn.text(estimate.value)
    match estimate.low, estimate.high:
        case float() as low, float() as high:
            return f"{value} ({drawn.text(low)} to {drawn.text(high)})"
        case float() as low, None:
            return f"{value} (at least {drawn.text(low)})"
        case None, float() as high:
            return f"{value} (at most {drawn.text(high)})"
        case _:
            return value
