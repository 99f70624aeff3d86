"""Panels of a training job's page: its curve and its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from quantry_core.jobs import CurvePoint, JobCheckpoint
from quantry_dashboard.curves import CHECKPOINT_HEADINGS, chart_options, checkpoint_texts, curve_text
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.charts import Chart
from quantry_dashboard.pages.panels import TableRow, add_table

MAX_POINTS = 400
"""More than a chart has pixels to tell apart."""

MAX_CHECKPOINTS = 10


class CurvePanel:
    """The loss by step. Hidden while nothing was measured."""

    def __init__(self) -> None:
        self._shown: list[CurvePoint] = []
        self._root = Node("section", classes="panel", hidden="hidden", aria_label="Curve")
        with self._root:
            with Node("div", classes="heading"):
                Node("h2", "Curve")
                self._text = Node("span", classes="dim")
            self._chart = Chart()

    def show(self, points: Sequence[CurvePoint]) -> None:
        """Shows a curve."""
        if list(points) == self._shown:
            return
        self._shown = list(points)
        self._root.show_if(bool(points))
        self._text.say(curve_text(points))
        self._chart.show(chart_options(points), f"Loss by step: {curve_text(points)}")


class CheckpointPanel:
    """The newest checkpoints, newest first. Hidden while there are none."""

    def __init__(self) -> None:
        self._shown: list[JobCheckpoint] = []
        self._root = Node("section", classes="panel", hidden="hidden", aria_label="Checkpoints")
        with self._root:
            Node("h2", "Checkpoints")
            self._table = Node("div")
            self._more = Node("p", classes="dim note")

    def show(self, checkpoints: Sequence[JobCheckpoint]) -> None:
        """Shows where a job got to."""
        if list(checkpoints) == self._shown:
            return
        self._shown = list(checkpoints)
        self._root.show_if(bool(checkpoints))
        left_out = len(checkpoints) - MAX_CHECKPOINTS
        self._more.say(f"and {left_out} older" if left_out > 0 else "")
        self._table.clear()
        with self._table:
            rows = [checkpoint_texts(checkpoint) for checkpoint in checkpoints[:MAX_CHECKPOINTS]]
            add_table("Checkpoints", CHECKPOINT_HEADINGS, (TableRow(row[0], row[1:]) for row in rows))
