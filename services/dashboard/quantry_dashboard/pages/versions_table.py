"""The table of a model's versions: filters that live in the address, and pages of the server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime

from quantry_core.methods import Format
from quantry_core.model_views import VersionFigures
from quantry_core.pages import Page
from quantry_core.version_notes import ListedVersion
from quantry_core.versions import VersionKind, VersionState
from quantry_dashboard import words
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.filtering import filters
from quantry_dashboard.pages.listing import Listing, cell
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.scatter import Measure, interval_text, quality_of
from quantry_dashboard.version_facts import STATE_CLASSES
from quantry_dashboard.version_filters import ModelView, version_address

COLUMNS = ("Version", "State", "Kind", "Scheme", "Format", "Weights", "Bits", "Quality", "Aliases", "Labels", "Made")
NUMBERS = ("Weights", "Bits", "Quality")


class VersionsTable:
    """One page of versions. What was measured and what aliases mean is told apart from it, and shown in the rows that are there."""

    def __init__(self, view: ModelView) -> None:
        self._rows: dict[str, _Row] = {}
        self._figures: Mapping[str, VersionFigures] = {}
        self._measure: Measure | None = None
        self._aliases: Mapping[str, str] = {}
        with Node("section", classes="versions", aria_label="Versions"):
            Node("h2", "Versions")
            clear = ModelView(view.model).url() if view.is_narrowed else None
            with filters("Filter versions", lambda name, value: view.url(**{name: value}), clear) as fields:
                fields.add_choice("kind", "Kind", VersionKind, view.kind)
                fields.add_choice("format", "Format", Format, view.format)
                fields.add_text("scheme", "Scheme", view.scheme, "W4A16")
                fields.add_choice("state", "State", VersionState, view.state)
                fields.add_text("tags", "Labels", view.tags, "stage=test,golden")
                fields.add_text("text", "Notes", view.text, "part of them")
            self._listing: Listing[ListedVersion] = Listing(
                "Versions",
                COLUMNS,
                key=lambda version: version.id,
                make_row=self._make_row,
                address=lambda after: view.url(after=after),
                after=view.after,
                empty=_empty,
                none_such=_none_such if view.is_narrowed or view.after else None,
                numbers=NUMBERS,
                classes="versions",
            )

    def show(self, page: Page[ListedVersion], now: datetime) -> None:
        """Shows a page of versions."""
        self._listing.show(page, now)

    def fail(self) -> None:
        """Takes away that it is loading."""
        self._listing.fail()

    def tell_figures(self, figures: Mapping[str, VersionFigures], measure: Measure | None) -> None:
        """Says what was measured, by version; the rows show it with the next page."""
        self._figures, self._measure = figures, measure

    def tell_aliases(self, aliases: Mapping[str, str]) -> None:
        """Says which aliases point at which version; the rows show it with the next page."""
        self._aliases = aliases

    def quality_text(self, version_id: str) -> str:
        """Returns a version's perplexity ratio on what the chart shows."""
        figures = self._figures.get(version_id)
        found = None if figures is None else quality_of(figures, self._measure)
        if found is None or found.perplexity_ratio is None:
            return ""
        return interval_text(found.perplexity_ratio, None, None)

    def bits_text(self, version_id: str) -> str:
        """Returns the bits per weight that its gate found."""
        figures = self._figures.get(version_id)
        return "" if figures is None or figures.bits_per_weight is None else f"{figures.bits_per_weight:.2f}"

    def aliases_text(self, version_id: str) -> str:
        """Returns the aliases that point at a version."""
        return self._aliases.get(version_id, "")

    def _make_row(self, version: ListedVersion) -> _Row:
        return _Row(self, version)


class _Row:
    """One version."""

    def __init__(self, table: VersionsTable, version: ListedVersion) -> None:
        self._table = table
        with Node("tr", role="row") as self.root:
            with cell("Version"):
                link(version.ref, version_address(version.id), classes="name", title=version.id)
            with cell("State"):
                self._state = Node("span", classes="status")
            texts = (version.kind, version.scheme or version.dtype or "", version.format, words.bytes_text(version.weights_bytes))
            for column, text in zip(COLUMNS[2:6], texts, strict=True):
                cell(column, text, classes="number" if column in NUMBERS else "")
            self._bits, self._quality = (cell(column, classes="number") for column in ("Bits", "Quality"))
            self._aliases = cell("Aliases")
            with cell("Labels", classes="labels"):
                self._labels = Node("span", classes="cut")
            cell("Made", words.moment_text(version.created_at))

    def show(self, version: ListedVersion, _now: datetime) -> None:
        """Shows a version as it is now."""
        self._state.say(version.state)
        self._state.mark_as(f"status {STATE_CLASSES[version.state]}")
        self._bits.say(self._table.bits_text(version.id))
        self._quality.say(self._table.quality_text(version.id))
        self._aliases.say(self._table.aliases_text(version.id))
        labels = words.labels_text(version.tags)
        self._labels.say(labels)
        self._labels.attribute("title", labels or None)


def _empty() -> AbstractContextManager[object]:
    return empty_state("This model has no versions", "All that it had are deleted: `quantry versions restore` brings one back by its id.")


def _none_such() -> AbstractContextManager[object]:
    return empty_state("No version is like that", "Clear the filters, or go back to the newest.")
