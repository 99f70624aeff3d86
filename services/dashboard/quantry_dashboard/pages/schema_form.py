"""A form for any document that a JSON schema describes: fields, lists, groups and choices, as the schema nests them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from nicegui import events, ui

from quantry_core.errors import FieldProblem
from quantry_dashboard.drafts import (
    AlternativesDraft,
    ConstantDraft,
    Draft,
    EntriesDraft,
    GroupDraft,
    LeafDraft,
    ManyDraft,
    MaybeDraft,
    place_of,
)
from quantry_dashboard.nodes import EMIT_CHECKED, EMIT_VALUE, Node
from quantry_dashboard.pages.controls import Wrong, add_control, help_text, new_id
from quantry_dashboard.shapes import ABSENT, Constant, Field, Flag, is_prominent, words_of

_NO_LABELS: Mapping[str, str] = MappingProxyType({})


class SchemaForm:
    """Builds controls for a draft where it stands. Whatever is changed in them is in the draft at once; ``changed`` is told."""

    def __init__(
        self, draft: GroupDraft, changed: Callable[[], None], *, more: str = "More", labels: Mapping[str, str] = _NO_LABELS
    ) -> None:
        """At the outermost level: ``more`` is what the fields that nobody needs to look at are folded under, ``labels`` are names of
        fields that are called otherwise than in the schema.
        """
        self._labels = labels
        self._draft = draft
        self._changed = changed
        self._wrongs: dict[Draft, Wrong] = {}
        with Node("div", classes="fields"):
            self._add_group(draft, more)

    def show_problems(self, problems: Sequence[FieldProblem]) -> list[FieldProblem]:
        """Shows each problem at the field it is about, unfolds what hides it and goes to the first; returns those that have no place."""
        for wrong in self._wrongs.values():
            wrong.forget()
        left = []
        for problem in problems:
            places = [part for part in place_of(self._draft, problem.field.split(".")) if part in self._wrongs]
            if places:
                self._wrongs[places[-1]].say(problem.message)
            else:
                left.append(problem)
        ui.run_javascript("quantryShowWrong()")
        return left

    def _add_group(self, draft: GroupDraft, more: str = "More") -> None:
        fields = [field for field in draft.shape.fields if not isinstance(field.shape, Constant)]
        folded = [field for field in fields if not is_prominent(field)]
        for field in sorted((field for field in fields if is_prominent(field)), key=lambda field: not field.is_required):
            self._add_field(field, draft.fields[field.name])
        if not folded:
            return
        if len(folded) == len(fields):
            for field in folded:
                self._add_field(field, draft.fields[field.name])
            return
        with Node("details", classes="more", open="open" if any(_is_touched(draft.fields[field.name]) for field in folded) else None):
            Node("summary", f"{more} ({len(folded)})")
            for field in folded:
                self._add_field(field, draft.fields[field.name])

    def _add_field(self, field: Field, draft: Draft) -> None:
        is_outermost = self._draft.fields.get(field.name) is draft
        label = self._labels.get(field.name, field.label) if is_outermost else field.label
        self._add(draft, label, field.help, is_required=field.is_required)

    def _add(self, draft: Draft, label: str, said: str, *, is_required: bool) -> None:
        match draft:
            case LeafDraft():
                self._add_leaf(draft, label, said, is_required=is_required)
            case GroupDraft():
                with _fieldset(label, said or draft.shape.help):
                    self._wrongs[draft] = Wrong()
                    self._add_group(draft)
            case MaybeDraft():
                self._add_maybe(draft, label, said)
            case ManyDraft():
                with _fieldset(label + _needed(is_required=is_required), said):
                    self._wrongs[draft] = Wrong()
                    self._add_items(draft, label)
            case EntriesDraft():
                with _fieldset(label + _needed(is_required=is_required), said):
                    self._wrongs[draft] = Wrong()
                    self._add_rows(draft, label)
            case AlternativesDraft():
                self._add_alternatives(draft, label, said)
            case ConstantDraft():
                pass

    def _add_leaf(self, draft: LeafDraft, label: str, said: str, *, is_required: bool) -> None:
        text = help_text(draft.shape, said, draft.default)
        is_flag = isinstance(draft.shape, Flag)
        with Node("div", classes="field flag" if is_flag else "field"):
            name = Node("label", label + _needed(is_required=is_required))
            help_id = new_id() if text else None
            control = add_control(draft, "", self._changed, is_required=is_required, described_by=help_id)
            name.attribute("for", str(control.props["id"]))
            if is_flag:
                control.move(target_index=0)
            if help_id is not None:
                Node("p", text, classes="help", id=help_id)
            self._wrongs[draft] = Wrong(control)

    def _add_maybe(self, draft: MaybeDraft, label: str, said: str) -> None:
        group_help = draft.draft.shape.help if isinstance(draft.draft, GroupDraft) else ""
        with Node("fieldset", classes="group"):
            with Node("legend"), Node("label", classes="switch"):
                switch = Node("input", type="checkbox", checked="checked" if draft.is_on else None)
                Node("span", label)
            if said or group_help:
                Node("p", said or group_help, classes="help")
            self._wrongs[draft] = Wrong(switch)
            body = Node("div", classes="fields")

        def build() -> None:
            body.clear()
            body.show_if(draft.is_on)
            if draft.is_on:
                with body:
                    self._add_inner(draft.draft, label)

        def take(event: events.GenericEventArguments) -> None:
            draft.is_on = event.args is True
            build()
            self._changed()

        switch.on("change", take, js_handler=EMIT_CHECKED)
        build()

    def _add_inner(self, draft: Draft, label: str) -> None:
        """Adds what a switch or a choice uncovers, without a frame of its own: that is there already."""
        match draft:
            case GroupDraft():
                self._wrongs[draft] = Wrong()
                self._add_group(draft)
            case ManyDraft():
                self._wrongs[draft] = Wrong()
                self._add_items(draft, label)
            case EntriesDraft():
                self._wrongs[draft] = Wrong()
                self._add_rows(draft, label)
            case _:
                self._add(draft, label, "", is_required=False)

    def _add_alternatives(self, draft: AlternativesDraft, label: str, said: str) -> None:
        names = [member.name for member in draft.shape.members]
        with Node("div", classes="group" if draft.shape.key else "field"):
            with Node("div", classes="field"):
                select_id = new_id()
                Node("label", label, for_=select_id)
                with Node("select", id=select_id, name=label.lower()) as select:
                    for name in names:
                        Node("option", name.replace("_", " "), value=name, selected="selected" if name == draft.chosen else None)
                explained = Node("p", classes="help")
                self._wrongs[draft] = Wrong(select)
            body = Node("div", classes="fields")

        def build() -> None:
            inner = draft.draft
            explained.say(" ".join(part for part in (said, inner.shape.help if isinstance(inner, GroupDraft) else "") if part))
            explained.show_if(bool(explained.text))
            body.clear()
            has_fields = not (isinstance(inner, ConstantDraft) or (isinstance(inner, GroupDraft) and not inner.fields))
            body.show_if(has_fields)
            if has_fields:
                with body:
                    self._add_inner(inner, label)

        def take(event: events.GenericEventArguments) -> None:
            draft.choose(str(event.args or ""))
            build()
            self._changed()

        select.on("change", take, js_handler=EMIT_VALUE)
        build()

    def _add_items(self, draft: ManyDraft, label: str) -> None:
        body = Node("div", classes="items")

        def add_item(item: Draft) -> None:
            number = draft.items.index(item) + 1
            with body, Node("div", classes="item") as row:
                if isinstance(item, LeafDraft):
                    control = add_control(item, f"{label} {number}", self._changed, is_required=False, described_by=None)
                    remove = _remove_button(f"Remove {label.lower()} {number}")
                    self._wrongs[item] = Wrong(control)
                else:
                    with Node("div", classes="inner-fields", role="group", aria_label=f"{label} {number}"):
                        self._add_inner(item, words_of(getattr(draft.shape.item, "key", None) or label))
                    remove = _remove_button(f"Remove {label.lower()} {number}")

            def take() -> None:
                draft.items.remove(item)
                row.delete()
                self._changed()

            remove.on("click", take)

        for item in draft.items:
            add_item(item)
        more = Node("button", "Add", classes="add", type="button", aria_label=f"Add to {label.lower()}")
        more.on("click", lambda: add_item(draft.add()))

    def _add_rows(self, draft: EntriesDraft, label: str) -> None:
        body = Node("div", classes="items")

        def add_row(place: int) -> None:
            entry = draft.rows[place]
            with body, Node("div", classes="item entry") as row:
                key = Node("input", type="text", placeholder="name", aria_label=f"{label}, name", spellcheck="false", autocomplete="off")
                key.attribute("^value", entry.key)
                if isinstance(entry.value, LeafDraft):
                    control = add_control(entry.value, f"{label}, value", self._changed, is_required=False, described_by=None)
                    self._wrongs[entry.value] = Wrong(control)
                else:
                    self._add_inner(entry.value, label)
                remove = _remove_button(f"Remove from {label.lower()}")

            def rename(event: events.GenericEventArguments) -> None:
                entry.key = str(event.args or "")
                self._changed()

            def take() -> None:
                draft.rows.remove(entry)
                row.delete()
                self._changed()

            key.on("change", rename, js_handler=EMIT_VALUE)
            remove.on("click", take)

        for place in range(len(draft.rows)):
            add_row(place)
        more = Node("button", "Add", classes="add", type="button", aria_label=f"Add to {label.lower()}")

        def add() -> None:
            draft.add()
            add_row(len(draft.rows) - 1)

        more.on("click", add)


def _fieldset(label: str, said: str) -> Node:
    with Node("fieldset", classes="group") as whole:
        Node("legend", label)
        if said:
            Node("p", said, classes="help")
    return whole


def _remove_button(label: str) -> Node:
    return Node("button", "Remove", classes="quiet remove", type="button", aria_label=label)


def _needed(*, is_required: bool) -> str:
    return " *" if is_required else ""


def _is_touched(draft: Draft) -> bool:
    return draft.given() is not ABSENT
