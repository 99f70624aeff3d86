"""Plain HTML elements, kept by the server and shown by the browser. Text is always text: nothing here takes HTML."""

from __future__ import annotations

from nicegui.element import Element

EMIT_VALUE = "(event) => emit(event.target.value)"
EMIT_CHECKED = "(event) => emit(event.target.checked)"
"""Handlers of a control's change: the server is sent what stands in it, or whether it is set."""


class Node(Element):
    """One element of a page. What is set to the value it has already is not sent."""

    def __init__(self, tag: str, text: str | None = None, *, classes: str = "", **attributes: str | None) -> None:
        """``attributes``: an underscore in a name stands for a hyphen; ``class_`` and the like are not needed. None: left out."""
        super().__init__(tag)
        with self.props.suspend_updates():
            for name, value in attributes.items():
                self.props.set_optional(_attribute(name), value)
        if classes:
            self.classes(classes)
        self._text = text
        self._class_names = classes

    @property
    def text(self) -> str:
        """Its text; empty where it has none."""
        return self._text or ""

    def say(self, text: str) -> None:
        """Sets the text."""
        if text != self._text:
            self._text = text
            self.update()

    def mark_as(self, classes: str) -> None:
        """Replaces the class names."""
        if classes != self._class_names:
            self._class_names = classes
            self.classes(replace=classes)

    def attribute(self, name: str, value: str | None) -> None:
        """Sets an attribute, or removes it with None."""
        if self.props.get(_attribute(name)) != value:
            self.props.set_optional(_attribute(name), value)

    def shape(self, style: str) -> None:
        """Replaces the inline style."""
        if style != getattr(self, "_shape", ""):
            self._shape = style
            self.style(replace=style)

    def show_if(self, is_shown: bool) -> None:
        """Shows the element, or hides it from everybody."""
        self.attribute("hidden", None if is_shown else "hidden")


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def link(text: str, href: str, *, classes: str = "", **attributes: str | None) -> Node:
    """Returns a link within the dashboard."""
    return Node("a", text, classes=classes, href=href, **attributes)
