"""Size against quality of all versions of a model: a chart whose points lead to versions, and the Pareto front as a table."""

from __future__ import annotations

from typing import Any

from nicegui import events, ui

from quantry_core.model_views import ModelFigures
from quantry_dashboard.nodes import EMIT_VALUE, Node, link
from quantry_dashboard.pages.charts import Chart
from quantry_dashboard.pages.panels import WORDS, open_table
from quantry_dashboard.scatter import (
    QUALITIES,
    SIZES,
    Measure,
    Scatter,
    chart_options,
    chosen_measure,
    measures,
    scatter_of,
    scatter_text,
    value_text,
)
from quantry_dashboard.version_filters import ModelView, version_address

X_DEFAULT, Y_DEFAULT = "bytes", "perplexity_ratio"


class ScatterPanel:
    """What is drawn is in the page's address; a bad name of an axis is taken for the first one."""

    def __init__(self, view: ModelView) -> None:
        self._view = view
        self._shown: ModelFigures | None = None
        self._x = view.x if view.x is not None and view.x in SIZES else X_DEFAULT
        self._y = view.y if view.y is not None and view.y in QUALITIES else Y_DEFAULT
        with Node("section", classes="panel scatter", aria_label="Size and quality"):
            Node("h2", "Size and quality")
            with Node("div", classes="filters", role="group", aria_label="What is drawn") as self._fields:
                self._add_choice("x", "Size", {key: axis.label for key, axis in SIZES.items()}, self._x)
                self._add_choice("y", "Quality", {key: axis.label for key, axis in QUALITIES.items()}, self._y)
                self._measure_fields = Node("div", classes="measure-fields")
            self._nothing = Node("p", "Loading…", classes="dim", role="status")
            self._chart = Chart("chart scatter-chart", on_point=_open_point)
            self._chart.prepare()
            self._summary = Node("p", classes="dim", hidden="hidden")
            self._table = Node("div")

    def show(self, figures: ModelFigures) -> Measure | None:
        """Shows what is known of the versions; returns what the quality shown is measured on and against."""
        measure = chosen_measure(figures, self._view.corpus, self._view.against)
        if figures == self._shown:
            return measure
        self._shown = figures
        scatter = scatter_of(figures, self._x, self._y, measure)
        self._show_measures(measures(figures), measure)
        self._nothing.show_if(not scatter.points)
        self._nothing.say(_why_empty(figures, scatter))
        if scatter.points:
            self._chart.show(chart_options(scatter), scatter_text(scatter))
        else:
            self._chart.hide()
        self._summary.show_if(bool(scatter.points))
        self._summary.say(_summary(scatter, figures))
        self._show_front(scatter)
        return measure

    def _show_measures(self, known: list[Measure], measure: Measure | None) -> None:
        self._measure_fields.clear()
        if measure is None:
            return
        with self._measure_fields:
            corpora = dict.fromkeys(one.corpus for one in known)
            self._add_choice("corpus", "Measured on", {name: name for name in corpora}, measure.corpus)
            references = dict.fromkeys(one.against for one in known if one.corpus == measure.corpus)
            self._add_choice("against", "Against", {name: name for name in references}, measure.against)

    def _show_front(self, scatter: Scatter) -> None:
        self._table.clear()
        if not scatter.front:
            return
        with self._table:
            Node("h3", "Pareto front")
            with open_table("Pareto front", ("Version", "", scatter.size.label, scatter.quality.label), WORDS):
                for point in scatter.front:
                    with Node("tr"):
                        with Node("th", scope="row"):
                            link(point.ref, version_address(point.id))
                        for text in (point.what, scatter.size.text(point.x), value_text(point)):
                            Node("td", text)

    def _add_choice(self, name: str, label: str, options: dict[str, str], chosen: str) -> None:
        with Node("label", classes="filter"):
            Node("span", label)
            with Node("select", name=name) as select:
                for value, text in options.items():
                    Node("option", text, value=value, selected="selected" if value == chosen else None)
            select.on("change", lambda event: self._go(name, event), js_handler=EMIT_VALUE)

    def _go(self, name: str, event: events.GenericEventArguments) -> None:
        changed: dict[str, str | None] = {name: str(event.args or "")}
        if name == "corpus":
            changed["against"] = None
        ui.navigate.to(self._view.url(**changed))


def _open_point(event: events.EChartPointClickEventArguments) -> None:
    # What NiceGUI states as its type is that of a bare number; a point with a name comes as a mapping.
    data: Any = event.data
    version_id = data.get("id") if isinstance(data, dict) else None
    if isinstance(version_id, str):
        ui.navigate.to(version_address(version_id))


def _why_empty(figures: ModelFigures, scatter: Scatter) -> str:
    if not figures.data:
        return "There are no versions to draw."
    if scatter.measure is None:
        return "Nothing was measured against another version yet: quality gates do that, and evaluate jobs with a reference."
    return f"No version has both: {scatter.size.label}, and {scatter.quality.missing} on {scatter.measure.corpus}."


def _summary(scatter: Scatter, figures: ModelFigures) -> str:
    parts = [f"{len(scatter.points)} versions drawn; a point leads to its version. The front is of ready versions alone."]
    if scatter.num_left_out:
        parts.append(f"{scatter.num_left_out} lack one of the two figures.")
    if figures.has_more:
        parts.append("Older versions than these are left out.")
    return " ".join(parts)
