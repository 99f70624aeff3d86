"""The one dialog of a page: it asks before something changes, says what is wrong with an answer, and shows a secret this once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from nicegui import events
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from quantry import Client
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.confirmed import Question
from quantry_dashboard.pages.parts import copyable
from quantry_dashboard.sessions import Session


class FieldKind(StrEnum):
    """How an answer is given."""

    TEXT = "text"
    LONG = "long"
    """Text of several lines."""
    CHOICE = "choice"
    """One of some values."""
    FLAGS = "flags"
    """Any of some values."""
    MOMENT = "moment"
    """A date and a time of day, in UTC."""


class AskedField(NamedTuple):
    """What a dialog asks for. ``name`` is what the answer is called, ``label`` what people read."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    kind: FieldKind = FieldKind.TEXT
    choices: Sequence[str] = ()
    chosen: Sequence[str] = ()
    """Of FLAGS: those that are set at first."""


class Shown(NamedTuple):
    """What an action has to show this once: a sentence, and texts that can be copied, by what they are."""

    heading: str
    sentence: str
    texts: Mapping[str, str]


class Answers:
    """What was answered, by the names of the fields."""

    def __init__(self, given: Mapping[str, str | list[str]]) -> None:
        self._given = given

    def text(self, name: str) -> str:
        """Returns an answer without the spaces around it."""
        value = self._given.get(name, "")
        return value.strip() if isinstance(value, str) else ""

    def chosen(self, name: str) -> list[str]:
        """Returns the flags that are set."""
        value = self._given.get(name, [])
        return value if isinstance(value, list) else []


Action = Callable[[Answers], Awaitable[Shown | None]]


class PageDialog:
    """Build it once, within the frame's content; ``ask`` opens it anew each time. It stays open until its action is done."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._is_busy = False
        self._action: Action | None = None
        self._fields: list[tuple[AskedField, list[Node]]] = []
        self._root = Node("dialog", classes="asking")
        self._root.on("close", self._forget)

    def ask(self, question: Question, action: Action, fields: Sequence[AskedField] = ()) -> None:
        """Opens with a question, and fields for what it needs to know; the answer to it runs ``action``.

        ``action`` may raise NotDone or pydantic.ValidationError: what they say stands in the dialog, which stays open.
        """
        self._action = action
        self._begin(question.heading)
        with self._root:
            if question.explanation:
                Node("p", question.explanation, classes="dim")
            self._wrong = Node("p", classes="banner", role="alert", hidden="hidden")
            self._fields = [(field, _add_field(field)) for field in fields]
            with Node("div", classes="actions"):
                self._add_close(question.keep)
                confirm = Node("button", question.confirm, type="button", classes="danger" if question.is_dangerous else "primary")
        ids = json.dumps([[node.id for node in nodes] for _, nodes in self._fields])
        read = "((field) => field.type === 'checkbox' ? field.checked : field.value)"
        confirm.on("click", self._take, js_handler=f"() => emit({ids}.map((ids) => ids.map((id) => {read}(getHtmlElement(id)))))")
        self._open()

    def ask_to(
        self, question: Question, session: Session, change: Callable[[Client], object], refresh: Callable[[], Awaitable[None]]
    ) -> None:
        """Opens with a question; the answer to it has the API ``change`` something, and then ``refresh`` show what came of it."""

        async def do(_answers: Answers) -> None:
            await ask(session, change)
            await self._frame.look(refresh)

        self.ask(question, do)

    def show(self, shown: Shown) -> None:
        """Shows what is shown this once."""
        self._begin(shown.heading)
        with self._root:
            Node("p", shown.sentence)
            with Node("dl", classes="secrets"):
                for name, text in shown.texts.items():
                    Node("dt", name)
                    with Node("dd"):
                        copyable(text, classes="mono secret")
            with Node("div", classes="actions"):
                self._add_close("I have kept it")
        self._open()

    def _begin(self, heading: str) -> None:
        self._fields = []
        self._root.clear()
        self._root.attribute("aria-label", heading)
        with self._root:
            Node("h2", heading)

    def _add_close(self, text: str) -> None:
        button = Node("button", text, type="button", classes="quiet")
        button.on("click", js_handler=f"() => getHtmlElement({self._root.id}).close()")

    def _open(self) -> None:
        # Once the browser has drawn what is in it: the first field, or else the first button, gets the focus.
        opened = f"const dialog = getHtmlElement({self._root.id}); if (!dialog.open) dialog.showModal();"
        focused = "dialog.querySelector('input, select, textarea, button')?.focus();"
        # Asked of the page itself: the button that was pressed may be gone with what the dialog held before.
        self._root.client.run_javascript(f"setTimeout(() => {{ {opened} {focused} }}, 20)")

    def _close(self) -> None:
        self._root.client.run_javascript(f"getHtmlElement({self._root.id}).close()")

    def _forget(self) -> None:
        """Takes away what was asked, and what was shown: a secret does not stay in the page."""
        self._root.clear()
        self._fields = []
        self._action = None

    async def _take(self, event: events.GenericEventArguments) -> None:
        action = self._action
        if action is None or self._is_busy:
            return
        answers = _answers(self._fields, event.args)
        self._is_busy = True
        try:
            await self._frame.attempt(lambda: self._do(action, answers))
        finally:
            self._is_busy = False

    async def _do(self, action: Action, answers: Answers) -> None:
        try:
            shown = await action(answers)
        except NotDone as trouble:
            self._refuse(trouble_text(trouble))
        except ValidationError as error:
            self._refuse(validation_text(error))
        else:
            if shown is None:
                self._close()
            else:
                self.show(shown)

    def _refuse(self, sentence: str) -> None:
        self._wrong.say(sentence)
        self._wrong.show_if(True)


def trouble_text(trouble: NotDone) -> str:
    """Returns why something was not done, with what is wrong in which field."""
    said = str(trouble)
    problems = "; ".join(f"{problem.field}: {problem.message}" for problem in trouble.problems if problem.message not in said)
    return f"{said} ({problems})" if problems else said


def validation_text(error: ValidationError) -> str:
    """Returns what is wrong with what was entered, field by field, without what was entered."""
    problems = []
    for item in error.errors(include_input=False, include_url=False):
        field = ".".join(str(part) for part in item["loc"]).replace("_", " ")
        problems.append(f"{field}: {said_of(item)}" if field else said_of(item))
    return "; ".join(problems)


def said_of(problem: ErrorDetails) -> str:
    """Returns what is wrong with one value."""
    return problem["msg"].removeprefix("Value error, ")


def _add_field(field: AskedField) -> list[Node]:
    if field.kind is FieldKind.FLAGS:
        with Node("fieldset", classes="entry flags"):
            Node("legend", field.label)
            nodes = [_add_flag(choice, is_set=choice in field.chosen) for choice in field.choices]
            _add_hint(field)
        return nodes
    with Node("label", classes="entry"):
        Node("span", field.label)
        node = _add_control(field)
        hint = _add_hint(field)
    node.attribute("aria-label", field.label)
    node.attribute("aria-describedby", None if hint is None else hint.html_id)
    return [node]


def _add_control(field: AskedField) -> Node:
    match field.kind:
        case FieldKind.LONG:
            # Its text at first is its content, not an attribute.
            return Node("textarea", field.value, rows="6", spellcheck="false")
        case FieldKind.CHOICE:
            with Node("select") as node:
                for choice in field.choices:
                    Node("option", choice, value=choice, selected="selected" if choice == field.value else None)
            return node
        case FieldKind.MOMENT:
            node = Node("input", type="datetime-local", step="60")
        case _:
            node = Node("input", type="text", spellcheck="false", autocomplete="off")
    # As an attribute: a property would be put back with each update of the dialog, while somebody types.
    node.attribute("^value", field.value)
    return node


def _add_flag(choice: str, *, is_set: bool) -> Node:
    with Node("label", classes="switch"):
        node = Node("input", type="checkbox", checked="checked" if is_set else None)
        Node("span", choice)
    return node


def _add_hint(field: AskedField) -> Node | None:
    return Node("span", field.hint, classes="dim entry-hint") if field.hint else None


def _answers(fields: Sequence[tuple[AskedField, list[Node]]], sent: Any) -> Answers:
    """Returns what a browser sent as answers; what it did not send, or not as asked, is empty."""
    lists = sent if isinstance(sent, list) else []
    given: dict[str, str | list[str]] = {}
    for (field, _), one in zip(fields, lists, strict=False):
        values = one if isinstance(one, list) else [one]
        if field.kind is FieldKind.FLAGS:
            given[field.name] = [choice for choice, is_set in zip(field.choices, values, strict=False) if is_set is True]
        else:
            given[field.name] = str(values[0]) if values else ""
    return Answers(given)
