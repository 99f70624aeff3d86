"""Charts that are told what to draw, again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import events, ui

from quantry_dashboard.nodes import Node


class Chart:
    """A chart, and what it shows in words. Hidden until there is something to draw: the library is large."""

    def __init__(self, classes: str = "chart", *, on_point: Callable[[events.EChartPointClickEventArguments], None] | None = None) -> None:
        """``on_point`` is called when somebody clicks on a point."""
        self._on_point = on_point
        self._options: dict[str, Any] | None = None
        self._chart: ui.echart | None = None
        self._place = Node("div", classes=classes, role="img", hidden="hidden")

    def prepare(self) -> None:
        """Has the browser load the library while what is to be drawn is still asked for."""
        ui.run_javascript('import("nicegui-echart")')

    def show(self, options: dict[str, Any], text: str) -> None:
        """Draws options; ``text`` says the same to those who do not see it."""
        self._place.attribute("aria-label", text)
        self._place.show_if(True)
        if options == self._options:
            return
        self._options = options
        if self._chart is None:
            with self._place:
                self._chart = ui.echart(options, self._on_point, renderer="svg")
        else:
            self._chart.options.clear()
            self._chart.options.update(options)
            self._chart.update()

    def hide(self) -> None:
        """Draws nothing."""
        self._place.show_if(False)
