"""Fields that narrow a list down: what is chosen goes to the page's address, so that every view has a link."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from nicegui import events, ui

from quantry_dashboard.nodes import EMIT_VALUE, Node, link

AddressWith = Callable[[str, str], str]
"""Returns the address of the same view with another value, or none (empty), of one filter, by its name."""


@contextmanager
def filters(label: str, address_with: AddressWith, clear: str | None = None) -> Iterator[FilterFields]:
    """Adds a row of fields, which are added within; ``clear``: where everything is shown, if this view is narrowed."""
    with Node("div", classes="filters", role="search", aria_label=label):
        yield FilterFields(address_with)
        if clear is not None:
            link("Clear", clear, classes="clear")


class FilterFields:
    """Adds fields. Each leads to another address when it is changed."""

    def __init__(self, address_with: AddressWith) -> None:
        self._address_with = address_with

    def add_choice(self, name: str, label: str, values: Iterable[str], chosen: str | None) -> None:
        """Adds a choice of values, or all."""
        with Node("label", classes="filter"):
            Node("span", label)
            with Node("select", name=name) as select:
                Node("option", "all", value="", selected=None if chosen else "selected")
                for value in values:
                    Node("option", value, value=value, selected="selected" if value == chosen else None)
            select.on("change", lambda event: self._go(name, event), js_handler=EMIT_VALUE)

    def add_text(self, name: str, label: str, value: str | None, example: str = "", *, classes: str = "", kind: str = "search") -> None:
        """Adds a field for text; ``kind``: what HTML calls the type of another field, such as datetime-local."""
        with Node("label", classes="filter"):
            Node("span", label)
            field = Node(
                "input",
                name=name,
                type=kind,
                placeholder=example,
                spellcheck="false",
                autocomplete="off",
                classes=classes,
            )
            # As an attribute: a property would be put back with each update of the page, while somebody types.
            field.attribute("^value", value or "")
            field.on("change", lambda event: self._go(name, event), js_handler=EMIT_VALUE)

    def _go(self, name: str, event: events.GenericEventArguments) -> None:
        ui.navigate.to(self._address_with(name, str(event.args or "")))
