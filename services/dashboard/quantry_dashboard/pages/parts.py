"""Small parts that many pages show: the way to a page, what an empty page says, tabs, what can be copied, a progress in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quantry_dashboard.nodes import Node, link


class Tab(NamedTuple):
    """One of several pages that stand beside each other."""

    name: str
    address: str


def add_crumbs(*ways: tuple[str, str], here: str, is_id: bool = False) -> None:
    """Adds the way to this page: names with their addresses, and what this page is; an id can be copied."""
    with Node("nav", classes="crumbs", aria_label="Way to this page"):
        for name, address in ways:
            link(name, address)
            Node("span", "/", classes="dim", aria_hidden="true")
        if is_id:
            copyable(here)
        else:
            Node("span", here, aria_current="page")


def copyable(text: str, *, shown: str | None = None, classes: str = "mono") -> Node:
    """Returns a text, such as an id or a command, with a button that copies all of it; ``shown``: what stands there instead."""
    with Node("span", classes="copyable") as whole:
        Node("span", shown or text, classes=classes, title=text if shown else None)
        button = Node("button", "Copy", classes="copy quiet", type="button", data_copied=text, aria_label=f"Copy {text}")
        button.on("click", js_handler="(event) => quantryCopy(event.currentTarget)")
    return whole


class CopyableText:
    """A copyable text that may change."""

    def __init__(self, name: str, *, classes: str = "mono") -> None:
        """``name``: what is copied, for those who do not see it."""
        with Node("span", classes="copyable") as self.root:
            self._text = Node("span", classes=classes)
            self._button = Node("button", "Copy", classes="copy quiet", type="button", data_copied="", aria_label=f"Copy {name}")
            self._button.on("click", js_handler="(event) => quantryCopy(event.currentTarget)")

    def say(self, text: str) -> None:
        """Sets the text."""
        self._text.say(text)
        self._button.attribute("data-copied", text)


def empty_state(heading: str, sentence: str = "", command: str = "") -> Node:
    """Returns what stands in place of a list that holds nothing: what is missing, and the command that makes the first.

    More goes within: ``with empty_state(...):``.
    """
    with Node("div", classes="panel empty") as whole:
        Node("h2", heading)
        if sentence:
            Node("p", sentence)
        if command:
            Node("pre", command, classes="command", tabindex="0")
    return whole


def add_tabs(label: str, tabs: Sequence[Tab], here: str) -> None:
    """Adds links to pages that stand beside each other; ``here``: the address of the one that is open."""
    with Node("nav", classes="tabs", aria_label=label):
        for tab in tabs:
            link(tab.name, tab.address, classes="tab", aria_current="page" if tab.address == here else None)


def trouble(sentence: str) -> Node:
    """Returns a banner for what is wrong with the page's address or a part of the page; what the API refuses shows by itself."""
    return Node("p", sentence, classes="banner", role="alert")
