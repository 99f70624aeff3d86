"""One control of a form for one value, with what it is called, what it means, and what is wrong with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from nicegui import events

from quantry_dashboard.drafts import LeafDraft
from quantry_dashboard.nodes import EMIT_CHECKED, EMIT_VALUE, Node
from quantry_dashboard.shapes import ABSENT, Choice, Document, Flag, Leaf, Number, Plain, Text

SUGGESTED = "suggested-"
"""Begins the id of a list of suggestions, which ends with what it names."""
TYPED_EVERY_S = 0.4
MAX_DEFAULT_CHARS = 60

_ids = itertools.count(1)


def new_id() -> str:
    """Returns an id for an element that another one speaks of."""
    return f"field-{next(_ids)}"


class Wrong:
    """What is wrong with a part of a form; hidden while nothing is. ``control`` is marked with it."""

    def __init__(self, control: Node | None = None) -> None:
        self._control = control
        self._node = Node("p", classes="wrong", hidden="hidden", id=new_id())

    def say(self, sentence: str) -> None:
        """Shows a sentence after those that are shown."""
        said = f"{self._node.text} {sentence}".strip() if self._is_shown else sentence
        self._node.say(said)
        self._node.show_if(True)
        if self._control is not None:
            self._control.attribute("aria-invalid", "true")
            self._control.attribute("aria-errormessage", str(self._node.props["id"]))

    def forget(self) -> None:
        """Shows nothing."""
        self._node.show_if(False)
        if self._control is not None:
            self._control.attribute("aria-invalid", None)
            self._control.attribute("aria-errormessage", None)

    @property
    def _is_shown(self) -> bool:
        return "hidden" not in self._node.props


def add_control(draft: LeafDraft, label: str, changed: Callable[[], None], *, is_required: bool, described_by: str | None) -> Node:
    """Adds the control for a value and returns it. ``label`` is its name where no label element speaks of it: give it an id for that."""
    shape = draft.shape
    ways = {"aria_label": label or None, "aria_describedby": described_by, "id": new_id()}
    if is_required and not isinstance(shape, Flag):
        ways["aria_required"] = "true"
    if isinstance(shape, Flag):
        return _add_flag(draft, changed, ways)
    if isinstance(shape, Choice):
        return _add_choice(draft, shape, changed, ways, is_required=is_required)
    tag = "textarea" if isinstance(shape, Document) else "input"
    node = _described(Node(tag, spellcheck="false", autocomplete="off", placeholder=_placeholder(draft)), ways | _input_attributes(shape))
    # As an attribute, which is what the control begins with: as a property, each update of the page would put it back.
    node.attribute("^value", draft.text)
    if tag == "textarea" and draft.text:
        node.say(draft.text)

    def take(event: events.GenericEventArguments) -> None:
        text = str(event.args if event.args is not None else "")
        if text != draft.text:
            draft.text = text
            changed()

    node.on("input", take, js_handler=EMIT_VALUE, throttle=TYPED_EVERY_S, leading_events=False)
    node.on("change", take, js_handler=EMIT_VALUE)
    return node


def help_text(shape: Leaf, said: str, default: object) -> str:
    """Returns what stands below a control: what the schema says of it, its bounds, its default."""
    parts = [said.strip()]
    if isinstance(shape, Number) and shape.bounds:
        parts.append(f"{shape.bounds[:1].upper()}{shape.bounds[1:]}.")
    if isinstance(shape, Text) and shape.is_moment:
        parts.append("In UTC.")
    if isinstance(shape, Document):
        parts.append("As JSON.")
    if default not in (ABSENT, None, "") and not isinstance(shape, Flag | Choice):
        parts.append(f"Default: {_default_text(default)}.")
    return " ".join(part for part in parts if part)


def _described(node: Node, ways: dict[str, str | None]) -> Node:
    for name, value in ways.items():
        node.attribute(name, value)
    return node


def _add_flag(draft: LeafDraft, changed: Callable[[], None], ways: dict[str, str | None]) -> Node:
    node = _described(Node("input", type="checkbox", checked="checked" if draft.complete() is True else None), ways)

    def take(event: events.GenericEventArguments) -> None:
        draft.text = "true" if event.args is True else "false"
        changed()

    node.on("change", take, js_handler=EMIT_CHECKED)
    return node


def _add_choice(draft: LeafDraft, shape: Choice, changed: Callable[[], None], ways: dict[str, str | None], *, is_required: bool) -> Node:
    chosen = draft.complete()
    with _described(Node("select"), ways) as node:
        if draft.default in (ABSENT, None):
            Node("option", "choose one" if is_required else "not given", value="", selected="selected" if chosen is ABSENT else None)
        for value in shape.values:
            Node("option", str(value), value=str(value), selected="selected" if value == chosen else None)

    def take(event: events.GenericEventArguments) -> None:
        draft.text = str(event.args or "")
        changed()

    node.on("change", take, js_handler=EMIT_VALUE)
    return node


def _placeholder(draft: LeafDraft) -> str | None:
    if draft.default not in (ABSENT, None):
        return _default_text(draft.default)
    return "number, yes or no, or text" if isinstance(draft.shape, Plain) else None


def _default_text(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)[:MAX_DEFAULT_CHARS]


def _input_attributes(shape: Leaf) -> dict[str, str | None]:
    match shape:
        case Number(is_whole=is_whole):
            return {"type": "text", "inputmode": "numeric" if is_whole else "decimal"}
        case Text(is_moment=True):
            return {"type": "datetime-local", "step": "1"}
        case Text(refers_to=noun) if noun is not None:
            return {"type": "text", "list": f"{SUGGESTED}{noun}"}
        case Document():
            return {"rows": "3"}
        case _:
            return {"type": "text"}
