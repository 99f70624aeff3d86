"""Buttons for what changes something, and the question that is asked before it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from quantry_dashboard.nodes import Node


class Question(NamedTuple):
    """What a dialog asks: its heading, what would happen, and the words of both answers."""

    heading: str
    explanation: str
    confirm: str
    keep: str = "Leave it"
    is_dangerous: bool = False


class WithheldButton(Node):
    """A button that the key of whoever looks may not press: hidden from everybody, whatever the page makes of it."""

    def __init__(self) -> None:
        super().__init__("button", type="button", hidden="hidden")

    def show_if(self, is_shown: bool) -> None:
        """Stays hidden."""


def plain_button(text: str, classes: str = "", *, label: str | None = None, hindrance: str | None = None) -> Node:
    """Returns a button; ``label`` is its name where its text says too little, ``hindrance`` why this key may not press it."""
    return WithheldButton() if hindrance else Node("button", text, classes=classes, type="button", aria_label=label)


def action_button(text: str, classes: str, hindrance: str | None) -> Node:
    """Returns a hidden button, for the page to show when it makes sense."""
    button = plain_button(text, classes, hindrance=hindrance)
    button.show_if(False)
    return button


def ask_before(button: Node, question: Question, action: Callable[[], Awaitable[None]]) -> Node:
    """Has a button open a dialog, whose confirmation runs ``action``; returns the dialog's explanation, to be told anew."""
    with Node("dialog", aria_label=question.heading) as dialog:
        Node("h2", question.heading)
        explanation = Node("p", question.explanation)
        with Node("div", classes="actions"):
            keep = Node("button", question.keep, type="button", classes="quiet")
            confirm = Node("button", question.confirm, type="button", classes="danger" if question.is_dangerous else "primary")
    close = f"getHtmlElement({dialog.id}).close()"
    button.on("click", js_handler=f"() => getHtmlElement({dialog.id}).showModal()")
    keep.on("click", js_handler=f"() => {close}")
    confirm.on("click", action, js_handler=f"() => {{ {close}; emit(); }}")
    return explanation
