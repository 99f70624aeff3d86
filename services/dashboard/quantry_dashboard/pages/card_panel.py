"""A model card: its headings, tables and code as elements of this page, every word of it as text."""

from __future__ import annotations

from quantry_dashboard.card_view import Block, Code, Heading, Items, Line, Paragraph, Table, blocks
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.panels import WORDS, label_cells


class CardPanel:
    """Folded away until somebody opens it."""

    def __init__(self) -> None:
        self._shown = ""
        with Node("section", classes="panel", aria_label="Model card"), Node("details"):
            with Node("summary"):
                Node("h2", "Model card")
            self._root = Node("div", classes="card")

    def show(self, card: str) -> None:
        """Shows a card: Markdown with front matter."""
        if card == self._shown:
            return
        self._shown = card
        self._root.clear()
        with self._root:
            for block in blocks(card):
                _add(block)


def _add(block: Block) -> None:
    match block:
        case Heading(level=level, line=line):
            # Below the panel's own heading.
            with Node(f"h{min(level + 2, 6)}"):
                _add_line(line)
        case Paragraph(line=line):
            with Node("p"):
                _add_line(line)
        case Items(lines=lines):
            with Node("ul"):
                for line in lines:
                    with Node("li"):
                        _add_line(line)
        case Code(text=text):
            Node("pre", text, classes="command", tabindex="0")
        case Table(headings=headings, rows=rows):
            with Node("div", classes="wide", tabindex="0", role="group"), Node("table", classes=WORDS, role="table"):
                if any(headings):
                    with Node("thead", role="rowgroup"), Node("tr", role="row"):
                        for line in headings:
                            with Node("th", scope="col", role="columnheader"):
                                _add_line(line)
                with Node("tbody", role="rowgroup") as body:
                    for row in rows:
                        with Node("tr"):
                            for line in row:
                                with Node("td"):
                                    _add_line(line)
            label_cells(body, ["".join(span.text for span in line) for line in headings])


def _add_line(line: Line) -> None:
    for span in line:
        Node("code" if span.is_code else "span", span.text)
