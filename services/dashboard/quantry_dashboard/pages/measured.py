"""The panel of what a training or a merge measured: before and after, or the ways that were tried, in the tables of the model card."""

from __future__ import annotations

from collections.abc import Sequence

from quantry_core.evidence_tables import EvidenceTable
from quantry_dashboard.nodes import Node


class MeasuredPanel:
    """Tables of evidence. Hidden while nothing was measured."""

    def __init__(self) -> None:
        self._shown: list[EvidenceTable] = []
        self._root = Node("section", classes="panel", hidden="hidden", aria_label="Measured")

    def show(self, tables: Sequence[EvidenceTable]) -> None:
        """Shows what was measured."""
        if list(tables) == self._shown:
            return
        self._shown = list(tables)
        self._root.show_if(bool(tables))
        self._root.clear()
        with self._root:
            Node("h2", "Measured")
            for table in tables:
                _add_table(table)


def _add_table(table: EvidenceTable) -> None:
    Node("h3", table.title)
    with Node("div", classes="wide", tabindex="0", role="group", aria_label=table.title), Node("table", classes="plain"):
        with Node("thead"), Node("tr"):
            for heading in ("", *table.columns):
                Node("th", heading, scope="col")
        with Node("tbody"):
            for row in table.rows:
                with Node("tr"):
                    Node("th", row.name, scope="row", title=row.words or None)
                    for cell in row.cells:
                        Node("td", cell)
    for problem in table.problems:
        Node("p", problem, classes="dim")
