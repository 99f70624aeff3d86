"""/compare?a=&b=: two versions side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from fastapi import Request
from nicegui import ui

from quantry_core.comparisons import Comparison
from quantry_core.stored_modules import StoredModules
from quantry_core.versions import VersionDetail
from quantry_dashboard.asking import ask
from quantry_dashboard.comparison_view import (
    Measured,
    fact_rows,
    field_rows,
    measured,
    module_headings,
    module_rows,
    relation_text,
    size_rows,
    verdict_rows,
)
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.panels import WORDS, TableRow, add_table
from quantry_dashboard.pages.parts import add_crumbs, empty_state
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_facts import base_id_of, compare_address
from quantry_dashboard.version_filters import version_address

MAX_SUGGESTED = 100
TAKE_BOTH = "(event) => {{ event.preventDefault(); emit([getHtmlElement({a}).value, getHtmlElement({b}).value]); }}"


def show(session: Session, request: Request) -> None:
    """Builds the comparison that the address names."""
    query = request.query_params
    ComparePage(session, query.get("a", "").strip(), query.get("b", "").strip()).build()


class ComparePage:
    """One open page. Versions never change, but for their state and evidence: it is read once."""

    def __init__(self, session: Session, left: str, right: str) -> None:
        self._session = session
        self._left = left
        self._right = right

    def build(self) -> None:
        """Builds the page; the comparison comes once the browser is connected."""
        self._frame = Frame(self._session, title="Compare versions", address=compare_address(self._left, self._right))
        with self._frame.content:
            add_crumbs(("Models", "/models"), here="Compare")
            Node("h1", "Compare versions")
            self._add_fields()
            self._arriving = Arriving(self._frame)
            self._all = self._arriving.add_body("job compare")
        self._timer = self._arriving.refresh_every(5.0, self._read)

    def _add_fields(self) -> None:
        with Node("form", classes="filters", role="search", aria_label="Choose two versions") as form:
            listed = Node("datalist")
            self._fields = [self._add_field(name, label, value, listed) for name, label, value in self._sides()]
            Node("button", "Compare", type="submit", classes="primary")
            if self._left and self._right:
                link("Swap", compare_address(self._right, self._left), classes="clear")
        form.on("submit", lambda event: self._go(event.args), js_handler=TAKE_BOTH.format(a=self._fields[0].id, b=self._fields[1].id))
        self._suggestions = listed

    def _sides(self) -> Iterable[tuple[str, str, str]]:
        return ("a", "Left", self._left), ("b", "Right", self._right)

    def _add_field(self, name: str, label: str, value: str, listed: Node) -> Node:
        with Node("label", classes="filter"):
            Node("span", label)
            return Node(
                "input",
                name=name,
                value=value,
                placeholder="bard-6m@2",
                list=listed.html_id,
                spellcheck="false",
                autocomplete="off",
                classes="version-field",
            )

    def _go(self, given: object) -> None:
        left, right = (str(value).strip() for value in given) if isinstance(given, list) and len(given) == 2 else ("", "")
        ui.navigate.to(compare_address(left, right))

    async def _read(self) -> None:
        self._all.clear()
        if not (self._left and self._right):
            self._timer.deactivate()
            self._arriving.come()
            with self._all:
                empty_state("Choose two versions", "By name and number, by an alias such as bard@production, or by id.")
            await self._suggest()
            return
        comparison = await self._arriving.read(ask(self._session, lambda client: client.versions.compare(self._left, self._right)))
        left, right, ours, theirs, _ = await self._arriving.read(
            asyncio.gather(
                self._version(comparison.left.id),
                self._version(comparison.right.id),
                self._modules(comparison.left.id),
                self._modules(comparison.right.id),
                self._suggest(),
            )
        )
        self._timer.deactivate()
        self._arriving.come()
        for field, side in zip(self._fields, (left, right), strict=True):
            field.attribute("value", side.ref)
        with self._all:
            _add(comparison, (left, right), (ours, theirs))

    async def _version(self, version_id: str) -> VersionDetail:
        return await ask(self._session, lambda client: client.versions.get(version_id))

    async def _modules(self, version_id: str) -> StoredModules:
        return await ask(self._session, lambda client: client.versions.modules(version_id))

    async def _suggest(self) -> None:
        suggested = await ask(self._session, lambda client: client.versions.list(limit=MAX_SUGGESTED))
        self._suggestions.clear()
        with self._suggestions:
            for version in suggested.data:
                Node("option", value=version.ref)


def _add(comparison: Comparison, details: tuple[VersionDetail, VersionDetail], modules: tuple[StoredModules, StoredModules]) -> None:
    headings = ("", comparison.left.ref, comparison.right.ref)
    with Node("section", classes="panel", aria_label="Both"):
        with Node("div", classes="heading"):
            Node("h2", "Both")
            Node("span", relation_text(comparison), classes="dim")
        with Node("div", classes="sides"):
            for version in details:
                with Node("p"):
                    link(version.ref, version_address(version.id), classes="name")
                    base_id = base_id_of(version)
                    if base_id is not None and base_id not in {comparison.left.id, comparison.right.id}:
                        Node("span", " · ")
                        link("compare it with the master", compare_address(base_id, version.id))
        _add_rows("What they are", headings, fact_rows(comparison))
    _add_section("Size", (*headings, "difference"), size_rows(comparison), "")
    _add_quality(measured(comparison), headings[1:])
    _add_section("Gate and verdicts", ("Check or corpus", *headings[1:]), verdict_rows(comparison), "Neither was judged.")
    _add_section("Recipe", headings, field_rows(comparison.recipe), "Both were made by the same recipe.")
    notes = " ".join(dict.fromkeys(side.note for side in modules if side.note is not None))
    _add_section("Modules", module_headings(comparison), module_rows(*modules), notes or "Every module is stored alike.")
    _add_section("Toolchain", headings, field_rows(comparison.toolchain), "The same libraries made both.")


def _add_quality(found: Measured, sides: Sequence[str]) -> None:
    headings = ("Measured on", "Figure", *sides, "difference")
    with Node("section", classes="panel", aria_label="Quality"):
        Node("h2", "Quality")
        if found.quality:
            _add_rows("Quality", headings, found.quality)
        else:
            Node("p", "Nothing was measured of either.", classes="dim")
        for sentence in found.unlike:
            Node("p", sentence, classes="dim note")
        if found.conditions:
            _add_folded("What it was measured on", ("Measured on", "Setting", *sides), found.conditions)
    if found.checks:
        with Node("section", classes="panel", aria_label="Checks"):
            _add_folded("Checks", ("Check", "Figure", *sides, "difference"), found.checks)


def _add_folded(title: str, headings: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    with Node("details"):
        Node("summary", f"{title} ({len(rows)})")
        _add_rows(title, headings, rows)


def _add_section(title: str, headings: Sequence[str], rows: Sequence[tuple[str, ...]], nothing: str) -> None:
    with Node("section", classes="panel", aria_label=title):
        Node("h2", title)
        if rows:
            _add_rows(title, headings, rows)
        else:
            Node("p", nothing, classes="dim")


def _add_rows(title: str, headings: Sequence[str], rows: Iterable[tuple[str, ...]]) -> None:
    add_table(title, headings, (TableRow(row[0], row[1:]) for row in rows), WORDS)
