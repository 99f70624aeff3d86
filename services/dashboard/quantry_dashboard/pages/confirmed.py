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


def action_button(text: str, classes: str, hindrance: str | None) -> Node:
    """Returns a hidden button; one that may not be used stays reachable, so that everybody learns why."""
    return Node(
        "button",
        text,
        classes=classes,
        type="button",
        hidden="hidden",
        aria_disabled="true" if hindrance else None,
        title=hindrance,
    )


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
