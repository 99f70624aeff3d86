"""A page of a long list: a table whose rows stay the same elements while what they show stays, and the ways to newer and older ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlencode

from quantry_core.pages import Page
from quantry_dashboard.asking import NotDone
from quantry_dashboard.nodes import Node, link

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Row(Protocol[T_contra]):
    """One row, built where it stands, then told what changed."""

    root: Node

    def show(self, item: T_contra, now: datetime) -> None:
        """Shows what the row is about as it is now."""
        ...


class Rows(Generic[T]):
    """The rows in a table's body, or the cards in a list; one that is still shown keeps its element, so that focus is not lost."""

    def __init__(self, body: Node, key: Callable[[T], str], make_row: Callable[[T], Row[T]]) -> None:
        """``key`` tells items apart; ``make_row`` builds a row for a new one, at the end of ``body``."""
        self._body = body
        self._key = key
        self._make_row = make_row
        self._rows: dict[str, Row[T]] = {}

    def show(self, items: Sequence[T], now: datetime) -> None:
        """Shows exactly these, in this order."""
        wanted = {self._key(item) for item in items}
        for gone in [known for known in self._rows if known not in wanted]:
            self._rows.pop(gone).root.delete()
        with self._body:
            for place, item in enumerate(items):
                row = self._rows.get(self._key(item))
                if row is None:
                    row = self._rows[self._key(item)] = self._make_row(item)
                if self._body.default_slot.children[place] is not row.root:
                    row.root.move(self._body, place)
                row.show(item, now)


class Listing(Generic[T]):
    """One page of a list, live: give it each page of the API as it is read.

    Build it within the frame's content. On a phone each row becomes a card, whose cells bear the names of their columns: make cells
    with ``cell``.
    """

    def __init__(
        self,
        title: str,
        columns: Sequence[str],
        *,
        key: Callable[[T], str],
        make_row: Callable[[T], Row[T]],
        address: Callable[[str | None], str],
        after: str | None,
        empty: Callable[[], object],
        none_such: Callable[[], object] | None = None,
        numbers: Sequence[str] = (),
        classes: str = "",
    ) -> None:
        """``address`` returns the address of the page after an item, or of the first; ``after``: the item this page follows.

        ``empty`` and ``none_such`` build what is shown where there is nothing at all, and where nothing is as was asked for; give
        ``none_such`` where something was asked for. ``numbers``: columns whose headings stand to the right.
        """
        self._address = address
        self._loading = Node("p", "Loading…", classes="dim", role="status")
        with (
            Node("div", classes=f"panel table {classes}".rstrip(), hidden="hidden") as self._panel,
            Node("table", role="table", aria_label=title),
        ):
            with Node("thead", role="rowgroup"), Node("tr", role="row"):
                for column in columns:
                    Node("th", column, scope="col", role="columnheader", classes="number" if column in numbers else "")
            body = Node("tbody", role="rowgroup")
        self._rows = Rows(body, key, make_row)
        self._nothing = Node("div", hidden="hidden")
        with self._nothing:
            (none_such or empty)()
        with Node("nav", classes="pages", aria_label="Pages"):
            self._newest = link("Newest", address(None), hidden=None if after else "hidden")
            self._older = link("Older", "#", hidden="hidden")

    def show(self, page: Page[T], now: datetime) -> None:
        """Shows a page of the API."""
        self._loading.show_if(False)
        self._rows.show(page.data, now)
        self._panel.show_if(bool(page.data))
        self._nothing.show_if(not page.data)
        self._older.show_if(page.has_more)
        if page.has_more:
            self._older.attribute("href", self._address(page.last_id))

    async def read(self, reading: Awaitable[Page[T]]) -> Page[T]:
        """Shows a page once it is read, and returns it; raises what the reading raises."""
        try:
            page = await reading
        except NotDone:
            self.fail()
            raise
        self.show(page, datetime.now(UTC))
        return page

    def fail(self) -> None:
        """Takes away that it is loading: nothing came, and a banner says why."""
        self._loading.show_if(False)


def cell(column: str, text: str | None = None, *, classes: str = "") -> Node:
    """Returns a cell of a Listing's row; ``column`` is the heading that it bears on a phone."""
    return Node("td", text, classes=classes, role="cell", data_label=column)


def after_of(query: Mapping[str, str]) -> str | None:
    """Returns the item that an address has its page follow; None: it is the first page."""
    return query.get("after", "").strip() or None


def address_of(path: str, **query: str | int | None) -> str:
    """Returns a path with what is given of a query."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
