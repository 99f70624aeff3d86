"""Panels of a training job's page: its curve and its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from quantry_core.jobs import CurvePoint, JobCheckpoint
from quantry_dashboard.curves import CHECKPOINT_HEADINGS, chart_options, checkpoint_texts, curve_text
from quantry_dashboard.nodes import Node

MAX_POINTS = 400
"""More than a chart has pixels to tell apart."""

MAX_CHECKPOINTS = 10


class CurvePanel:
    """The loss by step. Hidden while nothing was measured."""

    def __init__(self) -> None:
        self._shown: list[CurvePoint] = []
        self._chart: ui.echart | None = None
        self._root = Node("section", classes="panel", hidden="hidden", aria_label="Curve")
        with self._root:
            with Node("div", classes="heading"):
                Node("h2", "Curve")
                self._text = Node("span", classes="dim")
            self._place = Node("div", classes="chart", role="img", aria_label="Loss by step")

    def show(self, points: Sequence[CurvePoint]) -> None:
        """Shows a curve."""
        if list(points) == self._shown:
            return
        self._shown = list(points)
        self._root.show_if(bool(points))
        self._text.say(curve_text(points))
        self._place.attribute("aria-label", f"Loss by step: {curve_text(points)}")
        options = chart_options(points)
        if self._chart is None:
            # Not before there is something to draw: the library is large, and few jobs train.
            with self._place:
                self._chart = ui.echart(options, renderer="svg")
        else:
            self._chart.options.update(options)
            self._chart.update()


class CheckpointPanel:
    """The newest checkpoints, newest first. Hidden while there are none."""

    def __init__(self) -> None:
        self._shown: list[JobCheckpoint] = []
        self._root = Node("section", classes="panel", hidden="hidden", aria_label="Checkpoints")
        with self._root:
            Node("h2", "Checkpoints")
            with Node("table", classes="plain"):
                with Node("thead"), Node("tr"):
                    for heading in CHECKPOINT_HEADINGS:
                        Node("th", heading, scope="col")
                self._body = Node("tbody")
            self._more = Node("p", classes="dim")

    def show(self, checkpoints: Sequence[JobCheckpoint]) -> None:
        """Shows where a job got to."""
        if list(checkpoints) == self._shown:
            return
        self._shown = list(checkpoints)
        self._root.show_if(bool(checkpoints))
        left_out = len(checkpoints) - MAX_CHECKPOINTS
        self._more.say(f"and {left_out} older" if left_out > 0 else "")
        self._body.clear()
        with self._body:
            for checkpoint in checkpoints[:MAX_CHECKPOINTS]:
                with Node("tr"):
                    for text in checkpoint_texts(checkpoint):
                        Node("td", text)
