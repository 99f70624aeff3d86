"""What a model's page draws of size against quality: points, the Pareto front, a chart's options and the same in words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from quantry_core.metrics import Better
from quantry_core.model_views import MeasuredQuality, ModelFigures, VersionFigures
from quantry_core.versions import VersionState
from quantry_dashboard import words
from quantry_dashboard.chart_parts import AMBER, BLUE, GREY, TEXT_STYLE, axis

RED = "#d1605f"
PLAIN_BITS: Mapping[str | None, float] = {"float16": 16.0, "bfloat16": 16.0, "float32": 32.0}
MAX_NAMED = 12
"""So many points of the front are named in the chart; the table below it names all."""
NAME_ROOM_X, NAME_ROOM_Y = 0.09, 0.06
"""What a name takes of the chart's width and height, roughly. The chart itself moves names apart only where they hide one another whole."""


class SizeAxis(NamedTuple):
    """What is drawn to the right: less is better."""

    label: str
    unit: str
    value: Callable[[VersionFigures], float | None]
    text: Callable[[float], str]
    scale: float = 1.0
    """A value of the axis in units of the figure."""


class QualityAxis(NamedTuple):
    """What is drawn upwards."""

    label: str
    better: Better
    ideal: float
    """What a version has beside itself."""
    missing: str


def _bits(figures: VersionFigures) -> float | None:
    return PLAIN_BITS.get(figures.dtype) if figures.bits_per_weight is None else figures.bits_per_weight


def _bits_text(value: float) -> str:
    return f"{value:.2f} bits"


SIZES: Mapping[str, SizeAxis] = {
    "bytes": SizeAxis("weights", "MB", lambda figures: figures.weights_bytes, words.bytes_text, 1e6),
    "bits": SizeAxis("bits per weight", "", _bits, _bits_text),
    "memory": SizeAxis("peak memory of the engine", "MB", lambda figures: figures.memory_peak_bytes, words.bytes_text, 1e6),
}
QUALITIES: Mapping[str, QualityAxis] = {
    "perplexity_ratio": QualityAxis("perplexity ratio", Better.LOWER, 1.0, "perplexity"),
    "kl_mean_nats": QualityAxis("mean KL, nats", Better.LOWER, 0.0, "KL divergence"),
    "top1_agreement": QualityAxis("top-1 agreement", Better.HIGHER, 1.0, "agreement"),
}


class Measure(NamedTuple):
    """What quality is measured on, and against which version."""

    corpus: str
    against: str


class Point(NamedTuple):
    """One version."""

    id: str
    ref: str
    what: str
    state: VersionState
    x: float
    y: float
    low: float | None
    high: float | None
    is_reference: bool


class Scatter(NamedTuple):
    """All that is drawn."""

    size: SizeAxis
    quality: QualityAxis
    measure: Measure | None
    points: list[Point]
    front: list[Point]
    """By size, the smallest first."""
    num_left_out: int
    """Versions that lack one of the two figures."""


def measures(figures: ModelFigures) -> list[Measure]:
    """Returns what the versions were measured on and against, what most of them were measured on first."""
    counted = Counter(Measure(one.corpus, one.against) for version in figures.data for one in version.quality)
    return [measure for measure, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]


def chosen_measure(figures: ModelFigures, corpus: str | None, against: str | None) -> Measure | None:
    """Returns the measure that an address asks for, as far as there is such a one; else the most common."""
    known = measures(figures)
    fitting = [one for one in known if corpus in (None, one.corpus) and against in (None, one.against)]
    return next(iter(fitting or [one for one in known if corpus in (None, one.corpus)] or known), None)


def scatter_of(figures: ModelFigures, x: str, y: str, measure: Measure | None) -> Scatter:
    """Returns the points of one measure. ``x``, ``y``: keys of SIZES and QUALITIES."""
    size, quality = SIZES[x], QUALITIES[y]
    points = [] if measure is None else [point for one in figures.data if (point := _point(figures, one, x, y, measure)) is not None]
    return Scatter(size, quality, measure, points, pareto_front(points, quality.better), len(figures.data) - len(points))


def _point(figures: ModelFigures, version: VersionFigures, x: str, y: str, measure: Measure) -> Point | None:
    ref, size, quality = f"{figures.model_name}@{version.number}", SIZES[x].value(version), QUALITIES[y]
    found = next((one for one in version.quality if (one.corpus, one.against) == measure), None)
    is_reference = ref == measure.against
    value = quality.ideal if is_reference else None if found is None else getattr(found, y)
    if size is None or value is None:
        return None
    low, high = (None, None) if found is None or y != "perplexity_ratio" else (found.perplexity_ratio_low, found.perplexity_ratio_high)
    return Point(version.id, ref, what_text(version), version.state, size, value, low, high, is_reference)


def what_text(version: VersionFigures) -> str:
    """Returns what a version is in a few words: ``W4A16 · gptq``, ``master · float16``."""
    return " · ".join(part for part in (version.scheme or version.kind, version.format if version.scheme else version.dtype) if part)


def pareto_front(points: Iterable[Point], better: Better) -> list[Point]:
    """Returns the ready versions than which no ready one is both smaller, or as small, and better; the smallest first."""
    sign = 1 if better is Better.LOWER else -1
    front: list[Point] = []
    ready = (point for point in points if point.state is VersionState.READY)
    for point in sorted(ready, key=lambda one: (one.x, sign * one.y, one.ref)):
        if not front or sign * point.y < sign * front[-1].y:
            front.append(point)
    return front


def quality_of(version: VersionFigures, measure: Measure | None) -> MeasuredQuality | None:
    """Returns what was measured of a version by one measure."""
    return next((one for one in version.quality if (one.corpus, one.against) == measure), None)


def value_text(point: Point) -> str:
    """Returns a point's quality, with its interval where there is one."""
    if point.is_reference:
        return f"{words.number_text(point.y)} (the reference itself)"
    return interval_text(point.y, point.low, point.high)


def interval_text(value: float, low: float | None, high: float | None) -> str:
    """Returns a figure, with its 95% interval where there is one: ``1.013 (1.008 to 1.019)``."""
    number = f"{value:.4f}".rstrip("0").rstrip(".")
    return number if low is None or high is None else f"{number} ({low:.4f} to {high:.4f})"


def scatter_text(scatter: Scatter) -> str:
    """Returns in words what the chart shows."""
    if scatter.measure is None:
        return "Nothing was measured."
    corpus, against = scatter.measure
    names = ", ".join(point.ref for point in scatter.front)
    return (
        f"{scatter.quality.label} on {corpus} against {against}, by {scatter.size.label}: {len(scatter.points)} versions. "
        f"On the Pareto front: {names or 'none'}."
    )


def chart_options(scatter: Scatter) -> dict[str, Any]:
    """Returns the options of an ECharts chart: one series for each state, and the front as a line of its own, its points named."""
    front_ids = {point.id for point in scatter.front}
    series = [
        _series(name, colour, [point for point in scatter.points if point.state is state and point.id not in front_ids], scatter)
        for name, state, colour in (
            ("ready", VersionState.READY, BLUE),
            ("quarantined", VersionState.QUARANTINED, RED),
            ("archived", VersionState.ARCHIVED, GREY),
        )
    ]
    series = [one for one in series if one["data"]]
    series.append(_front_series(scatter))
    unit = f", {scatter.size.unit}" if scatter.size.unit else ""
    return {
        "animation": False,
        "grid": {"left": 64, "right": 40, "top": 40, "bottom": 52},
        "legend": {"top": 0, "textStyle": TEXT_STYLE, "data": [one["name"] for one in series]},
        "tooltip": {"trigger": "item", "renderMode": "richText", "confine": True, "formatter": "{b}"},
        "xAxis": {
            "type": "value",
            "name": f"{scatter.size.label}{unit}",
            "nameLocation": "middle",
            "nameGap": 30,
            "scale": True,
            **axis(),
        },
        "yAxis": {
            "type": "value",
            "name": scatter.quality.label,
            "nameLocation": "middle",
            "nameGap": 48,
            "scale": True,
            **axis(),
        },
        "series": series,
    }


def _series(name: str, colour: str, points: Sequence[Point], scatter: Scatter) -> dict[str, Any]:
    return {
        "name": name,
        "type": "scatter",
        "color": colour,
        "symbol": "diamond" if name == "quarantined" else "circle",
        "symbolSize": 9,
        "itemStyle": {"opacity": 0.7},
        "data": [_datum(point, scatter) for point in points],
    }


def _front_series(scatter: Scatter) -> dict[str, Any]:
    data = []
    named = _named(scatter)
    for point in scatter.front:
        label = {"show": point in named, "formatter": f"@{point.ref.rpartition('@')[2]} {point.what.partition(' · ')[0]}"}
        data.append({**_datum(point, scatter), "label": label})
    return {
        "name": "Pareto front",
        "type": "line",
        "step": "end",
        "color": AMBER,
        "symbol": "circle",
        "symbolSize": 11,
        "lineStyle": {"width": 1.5, "type": "dashed"},
        "label": {"position": "top", "color": AMBER, "fontSize": 11},
        "labelLayout": {"hideOverlap": True},
        "z": 3,
        "data": data,
    }


def _named(scatter: Scatter) -> list[Point]:
    """Returns the points of the front whose names have room beside each other: both ends, and of what is between the smallest first."""
    if len(scatter.front) < 3:
        return scatter.front
    wide, high = (max(values) - min(values) or 1.0 for values in ([one.x for one in scatter.points], [one.y for one in scatter.points]))
    first, *between, last = scatter.front
    named = [first, last]
    for point in between:
        has_room = all(abs(point.x - other.x) > NAME_ROOM_X * wide or abs(point.y - other.y) > NAME_ROOM_Y * high for other in named)
        if has_room and len(named) < MAX_NAMED:
            named.append(point)
    return named


def _datum(point: Point, scatter: Scatter) -> dict[str, Any]:
    # The name is what the tooltip shows: a format of ECharts' own would take braces for its own.
    said = f"{point.ref} · {point.what} · {point.state}\n{scatter.size.text(point.x)}\n{scatter.quality.label} {value_text(point)}"
    return {"name": said, "value": [point.x / scatter.size.scale, point.y], "id": point.id, "cursor": "pointer"}
