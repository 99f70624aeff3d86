"""What the pages of administration have in common: their heading, the way between them, and what stands there for whoever may not look."""

from __future__ import annotations

from quantry_dashboard.administration import admin_tabs
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.parts import add_tabs, empty_state
from quantry_dashboard.sessions import Session


def add_admin_head(session: Session, title: str, address: str) -> Node:
    """Adds the heading of a page and the way to the others; returns the place of its buttons."""
    with Node("div", classes="heading title"):
        Node("h1", title)
        actions = Node("div", classes="actions")
    add_tabs("Administration", admin_tabs(session.identity), address)
    return actions


def refuse(sentence: str) -> None:
    """Adds what stands in place of a page for whoever may not look."""
    empty_state("This page is not for your key", sentence)
