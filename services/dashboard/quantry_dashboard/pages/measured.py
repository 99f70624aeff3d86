"""The panel of what a training or a merge measured: before and after, or the ways that were tried, in the tables of the model card."""

from __future__ import annotations

from collections.abc import Sequence

from quantry_core.evidence_tables import EvidenceTable
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.panels import TableRow, add_table


class MeasuredPanel:
    """Tables of evidence. Hidden while nothing was measured."""

    def __init__(self) -> None:
        self._shown: list[EvidenceTable] = []
        self._trouble = ""
        self._root = Node("section", classes="panel", hidden="hidden", aria_label="Measured")

    def show(self, tables: Sequence[EvidenceTable]) -> None:
        """Shows what was measured."""
        if list(tables) == self._shown and not self._trouble:
            return
        self._shown, self._trouble = list(tables), ""
        self._root.show_if(bool(tables))
        self._root.clear()
        with self._root:
            Node("h2", "Measured")
            for table in tables:
                _add(table)

    def show_trouble(self, sentence: str) -> None:
        """Shows why there is nothing to show."""
        if sentence == self._trouble:
            return
        self._shown, self._trouble = [], sentence
        self._root.show_if(True)
        self._root.clear()
        with self._root:
            Node("h2", "Measured")
            Node("p", sentence, classes="dim")


def _add(table: EvidenceTable) -> None:
    Node("h3", table.title)
    add_table(table.title, ("", *table.columns), (TableRow(row.name, row.cells, row.words) for row in table.rows))
    for problem in table.problems:
        Node("p", problem, classes="dim")
