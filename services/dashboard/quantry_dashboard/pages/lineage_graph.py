"""The lineage of a version as a picture of links: masters at the top, arrows with roles. On a phone it is a list.

Every box is a link, reachable by keyboard.
"""

from __future__ import annotations

from quantry_core.versions import Lineage
from quantry_dashboard.lineage_view import BOX_HEIGHT, BOX_WIDTH, Box, Drawing, drawing_of, state_text
from quantry_dashboard.nodes import Node, link


class LineageGraph:
    """Drawn anew when the lineage has changed; it scrolls where it is wider than the page."""

    def __init__(self) -> None:
        self._shown: Lineage | None = None
        with Node("section", classes="panel", aria_label="Lineage"):
            Node("h2", "Lineage")
            self._root = Node("div")

    def show(self, lineage: Lineage) -> None:
        """Shows a lineage."""
        if lineage == self._shown:
            return
        self._shown = lineage
        self._root.clear()
        drawing = drawing_of(lineage)
        with self._root:
            # Boxes are links in the order of the layers: whoever goes through them by keyboard goes from the master down.
            with Node("div", classes="lineage", role="group", aria_label="Lineage graph"):
                with Node("div", classes="lineage-canvas") as canvas:
                    _add_arrows(drawing)
                    for box in drawing.boxes:
                        _add_box(box)
                canvas.shape(f"width: {drawing.width:g}px; height: {drawing.height:g}px")
            if drawing.num_left_out:
                Node("p", f"{drawing.num_left_out} more were made from it: quantry versions lineage shows them.", classes="dim note")
            elif drawing.has_more:
                Node("p", "More was made from it than is shown.", classes="dim note")
            elif not lineage.links:
                Node("p", "It was made from nothing here, and nothing was made from it so far.", classes="dim note")


def _add_arrows(drawing: Drawing) -> None:
    size = {"width": f"{drawing.width:g}", "height": f"{drawing.height:g}"}
    with Node("svg", classes="lineage-arrows", aria_hidden="true", **size):
        for arrow in drawing.arrows:
            Node("path", d=arrow.path)
    # Arrows that run together bear their role once.
    roles = {(arrow.role, arrow.left, arrow.top): arrow for arrow in drawing.arrows}
    for arrow in roles.values():
        Node("span", arrow.role, classes="lineage-role", aria_hidden="true").shape(f"left: {arrow.left:g}px; top: {arrow.top:g}px")


def _add_box(box: Box) -> None:
    state = "dataset" if box.node.noun == "dataset" else box.node.state
    current = " current" if box.is_current else ""
    here = "page" if box.is_current else None
    with link("", box.address, classes=f"lineage-box {state}{current}", aria_label=box.words, aria_current=here, title=box.words) as node:
        Node("span", box.node.label, classes="cut lineage-name")
        Node("span", state_text(box.node), classes="cut dim")
        if box.origins:
            Node("span", f"from {box.origins}", classes="lineage-origins dim", aria_hidden="true")
    node.shape(f"left: {box.left:g}px; top: {box.top:g}px; width: {BOX_WIDTH}px; height: {BOX_HEIGHT}px")
