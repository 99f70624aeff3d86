"""A dialog that asks for a few values, and does something with them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from nicegui import events

from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.confirmed import Question


class Entry(NamedTuple):
    """A field of the dialog."""

    label: str
    value: str = ""
    hint: str = ""
    is_long: bool = False
    suggestions: Sequence[str] = ()


class EntryDialog:
    """The fields behind a button. What stands in them is told anew before somebody opens it; while it is open nothing changes it."""

    def __init__(self, button: Node, question: Question, entries: Sequence[Entry], action: Callable[[list[str]], Awaitable[None]]) -> None:
        """``action`` gets the text of each field."""
        self._action = action
        with Node("dialog", aria_label=question.heading, classes="asking") as self._dialog:
            Node("h2", question.heading)
            if question.explanation:
                Node("p", question.explanation, classes="dim")
            self._fields = [self._add(entry) for entry in entries]
            with Node("div", classes="actions"):
                keep = Node("button", question.keep, type="button", classes="quiet")
                confirm = Node("button", question.confirm, type="button", classes="danger" if question.is_dangerous else "primary")
        close = f"getHtmlElement({self._dialog.id}).close()"
        ids = json.dumps([field.id for field in self._fields])
        # A field keeps what is typed into it: what the server last said is put back each time that it is opened.
        refill = f"{ids}.forEach((id) => {{ const field = getHtmlElement(id); field.value = field.dataset.said ?? ''; }})"
        button.on("click", js_handler=f"() => {{ {refill}; getHtmlElement({self._dialog.id}).showModal(); }}")
        keep.on("click", js_handler=f"() => {close}")
        confirm.on("click", self._take, js_handler=f"() => {{ {close}; emit({ids}.map((id) => getHtmlElement(id).value)); }}")

    def say(self, values: Sequence[str]) -> None:
        """Sets what stands in the fields when the dialog is opened."""
        for field, value in zip(self._fields, values, strict=True):
            field.attribute("data-said", value)

    async def _take(self, event: events.GenericEventArguments) -> None:
        given = event.args if isinstance(event.args, list) else []
        await self._action([str(value) for value in given])

    def _add(self, entry: Entry) -> Node:
        with Node("label", classes="entry"):
            Node("span", entry.label)
            if entry.is_long:
                field = Node("textarea", rows="6", data_said=entry.value)
            else:
                field = Node("input", type="text", data_said=entry.value, spellcheck="false", autocomplete="off")
            if entry.suggestions:
                listed = Node("datalist")
                with listed:
                    for value in entry.suggestions:
                        Node("option", value=value)
                field.attribute("list", listed.html_id)
            if entry.hint:
                Node("span", entry.hint, classes="dim entry-hint")
        return field
