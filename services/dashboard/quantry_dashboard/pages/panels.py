"""Panels of a job's page. Each is told what to show, again and again, and draws itself anew only when that has changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from quantry_core.jobs import EventKind, JobEvent
from quantry_dashboard import words
from quantry_dashboard.facts import Comparison, Fact
from quantry_dashboard.nodes import Node, link

MAX_EVENTS = 200
FIGURES, WORDS = "plain", "plain words"
"""Classes of tables: figures stand to the right of their columns, words to the left."""


class TableRow(NamedTuple):
    """A row of a table: what it is about, and its cells."""

    name: str
    cells: Sequence[str]
    words: str = ""
    """What the name means."""


@contextmanager
def open_table(title: str, headings: Sequence[str], classes: str = FIGURES) -> Iterator[None]:
    """Adds a table whose rows are added within; it scrolls on its own where it is wider than the page. ``title`` is what it is called.

    On a phone each row becomes a card, whose cells bear the headings of their columns.
    """
    with (
        Node("div", classes="wide", tabindex="0", role="group", aria_label=title),
        Node("table", classes=classes, role="table", aria_label=title),
    ):
        with Node("thead", role="rowgroup"), Node("tr", role="row"):
            for heading in headings:
                Node("th", heading, scope="col", role="columnheader")
        with Node("tbody", role="rowgroup") as body:
            yield
    label_cells(body, headings)


def label_cells(body: Node, headings: Sequence[str]) -> None:
    """Gives the cells in a table's body their headings, and roles: as a card of a phone a row is no table's row to a browser."""
    for row in body.default_slot.children:
        cells = [cell for cell in row.default_slot.children if isinstance(cell, Node)]
        if isinstance(row, Node):
            row.attribute("role", "row")
        for cell, heading in zip(cells, headings, strict=False):
            cell.attribute("role", "rowheader" if cell.tag == "th" else "cell")
            cell.attribute("data-label", heading or None)


def add_table(title: str, headings: Sequence[str], rows: Iterable[TableRow], classes: str = FIGURES) -> None:
    """Adds a table of texts, as ``open_table`` does."""
    with open_table(title, headings, classes):
        for row in rows:
            with Node("tr"):
                Node("th", row.name, scope="row", title=row.words or None)
                for cell in row.cells:
                    Node("td", cell)


class FactPanel:
    """A heading and a list of names with their texts. Hidden while there is nothing to say."""

    def __init__(self, heading: str) -> None:
        self._shown: list[Fact] = []
        self._root = Node("section", classes="panel", hidden="hidden", aria_label=heading)
        with self._root:
            Node("h2", heading)
            self._list = Node("dl", classes="facts")

    def show(self, facts: list[Fact]) -> None:
        """Shows facts."""
        if facts == self._shown:
            return
        is_same_shape = [(fact.name, fact.href) for fact in facts] == [(fact.name, fact.href) for fact in self._shown]
        self._shown = facts
        self._root.show_if(bool(facts))
        if is_same_shape:
            for node, fact in zip(self._texts, facts, strict=True):
                node.say(fact.text)
            return
        self._list.clear()
        self._texts: list[Node] = []
        with self._list:
            for fact in facts:
                Node("dt", fact.name)
                with Node("dd"):
                    self._texts.append(Node("span", fact.text) if fact.href is None else link(fact.text, fact.href))


class EstimatePanel:
    """The estimate beside what happened."""

    def __init__(self) -> None:
        self._shown: tuple[list[Comparison], str] = ([], "")
        self._root = Node("section", classes="panel", hidden="hidden", aria_label="Estimate")
        with self._root:
            Node("h2", "Estimate")
            self._table = Node("div")
            self._notes = Node("p", classes="dim note")

    def show(self, rows: list[Comparison], notes: str) -> None:
        """Shows the figures and a sentence below them."""
        if (rows, notes) == self._shown:
            return
        self._shown = (rows, notes)
        self._root.show_if(bool(rows))
        self._notes.say(notes)
        self._table.clear()
        with self._table:
            add_table("Estimate", ("", "expected", "happened", "ratio"), (TableRow(row[0], row[1:]) for row in rows))


class Timeline:
    """What happened to a job, newest first."""

    def __init__(self) -> None:
        self.last_seq = 0
        self._entries: deque[Node] = deque()
        with Node("section", classes="panel", aria_label="Events"):
            Node("h2", "Events")
            self._list = Node("ol", classes="timeline", aria_live="polite")

    def add(self, event: JobEvent) -> None:
        """Adds one event at the top; one that stands there already is left out, and so is one for a page that is gone."""
        if event.seq <= self.last_seq or self._list.is_deleted:
            return
        self.last_seq = event.seq
        kind = str(event.data.get("status", "")) if event.kind is EventKind.STATE else "note"
        with self._list:
            entry = Node("li", classes=kind)
            with entry:
                Node(
                    "time",
                    event.created_at.strftime("%H:%M:%S"),
                    datetime=event.created_at.isoformat(),
                    title=words.moment_text(event.created_at),
                )
                Node("span", words.event_text(event))
        entry.move(self._list, 0)
        self._entries.append(entry)
        while len(self._entries) > MAX_EVENTS:
            self._entries.popleft().delete()
