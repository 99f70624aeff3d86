"""The charts of a rollout's page: errors and latencies of both releases over time."""

from __future__ import annotations

from quantry_core.traffic_spans import RolloutSpans
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.charts import Chart
from quantry_dashboard.traffic_charts import CHARTS, chart_options, chart_text, has_figures


class TrafficCharts:
    """A panel with a chart for each figure. Hidden while nothing was measured."""

    def __init__(self) -> None:
        self._shown: RolloutSpans | None = None
        with Node("section", classes="panel", aria_label="Both releases over time", hidden="hidden") as self._root:
            Node("h2", "Both releases over time")
            self._note = Node("p", classes="dim")
            with Node("div", classes="charts"):
                self._charts = [self._add(drawn.title) for drawn in CHARTS]

    def show(self, spans: RolloutSpans | None) -> None:
        """Draws what was measured lately."""
        if spans is None or spans == self._shown:
            return
        self._shown = spans
        self._root.show_if(has_figures(spans))
        self._note.say(
            f"Spans of {spans.span_s} s; the shade is each figure's own 95% interval. Verdicts stand on their own, stricter ones."
        )
        for chart, drawn in zip(self._charts, CHARTS, strict=True):
            chart.show(chart_options(drawn, spans), chart_text(drawn, spans))

    @staticmethod
    def _add(title: str) -> Chart:
        with Node("div"):
            Node("h3", title)
            return Chart("chart low")
