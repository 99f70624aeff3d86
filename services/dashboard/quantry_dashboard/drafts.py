"""What somebody has filled into a form so far: a tree beside the form's shapes, from which the document is read that is submitted.

What is left as it is by default is not in the document: the API's own defaults hold then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quantry_dashboard.shapes import (
    ABSENT,
    Alternatives,
    Choice,
    Constant,
    Document,
    Entries,
    Field,
    Flag,
    Group,
    Leaf,
    Many,
    Maybe,
    Member,
    Number,
    Plain,
    Shape,
    Text,
)


@dataclass(eq=False)
class LeafDraft:
    """One control; ``text`` is what stands in it, empty where the default holds."""

    shape: Leaf
    default: Any = ABSENT
    text: str = ""

    def given(self) -> Any:
        value = self.complete()
        return ABSENT if value == self.default and type(value) is type(self.default) else value

    def complete(self) -> Any:
        return self.default if self.text.strip() == "" else _read(self.shape, self.text)

    def fill(self, value: Any) -> None:
        self.text = "" if value is None or value is ABSENT or value == self.default else _written(self.shape, value)


@dataclass(eq=False)
class ConstantDraft:
    """A value that cannot be another."""

    shape: Constant

    def given(self) -> Any:
        return self.shape.value

    def complete(self) -> Any:
        return self.shape.value

    def fill(self, value: Any) -> None:
        """Nothing can be filled in."""


@dataclass(eq=False)
class GroupDraft:
    """Named fields, all of them, each with what was filled in."""

    shape: Group
    is_required: bool = False
    fields: dict[str, Draft] = field(default_factory=dict)

    def given(self) -> Any:
        document = {name: draft.given() for name, draft in self.fields.items()}
        document = {name: value for name, value in document.items() if value is not ABSENT}
        return document if document or self.is_required else ABSENT

    def complete(self) -> Any:
        document = {name: draft.complete() for name, draft in self.fields.items()}
        return {name: value for name, value in document.items() if value is not ABSENT}

    def fill(self, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, draft in self.fields.items():
                if name in value:
                    draft.fill(value[name])


@dataclass(eq=False)
class ManyDraft:
    """A list of items; empty controls among them do not count."""

    shape: Many
    default: Any = ABSENT
    items: list[Draft] = field(default_factory=list)

    def add(self, value: Any = ABSENT) -> Draft:
        """Returns a new item at the end."""
        item = draft_of(self.shape.item, is_required=True)
        item.fill(value)
        self.items.append(item)
        return item

    def kept(self) -> list[Draft]:
        """Returns the items that count."""
        return [item for item in self.items if item.complete() is not ABSENT]

    def given(self) -> Any:
        values = [item.given() for item in self.kept()]
        if self.default is ABSENT:
            return values or ABSENT
        return ABSENT if self.complete() == _completed(self.shape, self.default) else values

    def complete(self) -> Any:
        return [item.complete() for item in self.kept()]

    def fill(self, value: Any) -> None:
        if isinstance(value, Sequence) and not isinstance(value, str):
            self.items.clear()
            for item in value:
                self.add(item)


@dataclass(eq=False)
class EntryDraft:
    """One value and its key."""

    value: Draft
    key: str = ""


@dataclass(eq=False)
class EntriesDraft:
    """Values by keys; a row without a key does not count."""

    shape: Entries
    default: Any = ABSENT
    rows: list[EntryDraft] = field(default_factory=list)

    def add(self, key: str = "", value: Any = ABSENT) -> EntryDraft:
        """Returns a new row at the end."""
        row = EntryDraft(draft_of(self.shape.value, is_required=True), key)
        row.value.fill(value)
        self.rows.append(row)
        return row

    def given(self) -> Any:
        values = self.complete()
        if self.default is ABSENT:
            return values or ABSENT
        return ABSENT if values == self.default else values

    def complete(self) -> Any:
        values = {row.key.strip(): row.value.complete() for row in self.rows if row.key.strip()}
        return {key: "" if value is ABSENT else value for key, value in values.items()}

    def fill(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self.rows.clear()
            for key, item in value.items():
                self.add(str(key), item)


@dataclass(eq=False)
class AlternativesDraft:
    """One of several shapes; what was filled into the others is kept while the form is open."""

    shape: Alternatives
    default: Any = ABSENT
    chosen: str = ""
    drafts: dict[str, Draft] = field(default_factory=dict)

    @property
    def draft(self) -> Draft:
        """What is filled into the chosen one."""
        return self.drafts[self.chosen]

    def choose(self, name: str) -> None:
        """Takes another shape; one that there is not changes nothing."""
        if name in self.drafts:
            self.chosen = name

    def given(self) -> Any:
        value = self.draft.given()
        if self.shape.key is None:
            return ABSENT if self._is_default() else value
        value = {} if value is ABSENT else value
        return ABSENT if self._is_default() else {self.shape.key: self.chosen, **value}

    def complete(self) -> Any:
        value = self.draft.complete()
        return value if self.shape.key is None or value is ABSENT else {self.shape.key: self.chosen, **value}

    def fill(self, value: Any) -> None:
        for member in self.shape.members:
            if _fits(member, self.shape.key, value):
                self.chosen = member.name
                self.draft.fill(value)
                return

    def _is_default(self) -> bool:
        return self.default is not ABSENT and self.complete() == _completed(self.shape, self.default)


@dataclass(eq=False)
class MaybeDraft:
    """A shape behind a switch; off is null."""

    shape: Maybe
    draft: Draft
    default: Any = ABSENT
    is_on: bool = False

    def given(self) -> Any:
        is_on_by_default = self.default not in (None, ABSENT)
        if not self.is_on:
            return None if is_on_by_default else ABSENT
        if is_on_by_default and self.complete() == _completed(self.shape, self.default):
            return ABSENT
        value = self.draft.given()
        return self.draft.complete() if value is ABSENT else value

    def complete(self) -> Any:
        return self.draft.complete() if self.is_on else None

    def fill(self, value: Any) -> None:
        self.is_on = value is not None
        self.draft.fill(value)


Draft = LeafDraft | ConstantDraft | GroupDraft | ManyDraft | EntriesDraft | AlternativesDraft | MaybeDraft


def draft_of(shape: Shape, *, is_required: bool = False, default: Any = ABSENT) -> Draft:
    """Returns a shape as nobody has touched it: with its defaults, and one empty item in a list that needs one."""
    draft = _empty(shape, is_required=is_required, default=default)
    if default is not ABSENT:
        draft.fill(default)
    elif isinstance(draft, ManyDraft) and draft.shape.least:
        draft.add()
    return draft


def prefilled(shape: Group, document: Mapping[str, Any]) -> GroupDraft:
    """Returns a draft in which a document is filled in; what of it has no place is left out."""
    draft = _group(shape, is_required=True)
    draft.fill(document)
    return draft


def place_of(draft: Draft, path: Sequence[str]) -> Iterator[Draft]:
    """Yields the drafts that a path leads through, as the API writes it (spec.calibration.datasets.0), the outermost first."""
    yield draft
    if isinstance(draft, MaybeDraft | AlternativesDraft):
        yield from place_of(draft.draft, path)
        return
    if not path:
        return
    head, rest = path[0], path[1:]
    match draft:
        case GroupDraft(fields=fields) if head in fields:
            yield from place_of(fields[head], rest)
        case ManyDraft() if head.isdecimal() and int(head) < len(draft.kept()):
            yield from place_of(draft.kept()[int(head)], rest)
        case EntriesDraft(rows=rows):
            for row in rows:
                if row.key.strip() == head:
                    yield from place_of(row.value, rest)
                    return


def _empty(shape: Shape, *, is_required: bool, default: Any) -> Draft:
    draft: Draft
    match shape:
        case Group():
            draft = _group(shape, is_required=is_required)
        case Many():
            draft = ManyDraft(shape, default)
        case Entries():
            draft = EntriesDraft(shape, default)
        case Constant():
            draft = ConstantDraft(shape)
        case Maybe(shape=inner):
            draft = MaybeDraft(shape, draft_of(inner, is_required=True), default)
        case Alternatives():
            draft = _alternatives(shape, default)
        case _:
            draft = LeafDraft(shape, default)
    return draft


def _group(shape: Group, *, is_required: bool) -> GroupDraft:
    fields: dict[str, Draft] = {}
    for member in shape.fields:
        fields[member.name] = draft_of(member.shape, is_required=member.is_required, default=_default_of(member))
    return GroupDraft(shape, is_required, fields)


def _default_of(member: Field) -> Any:
    """Returns a field's default; null where the schema names none and null is one of the alternatives."""
    if member.default is ABSENT and isinstance(member.shape, Alternatives) and not member.is_required:
        return None if any(other.shape == Constant(None) for other in member.shape.members) else ABSENT
    return member.default


def _alternatives(shape: Alternatives, default: Any) -> AlternativesDraft:
    drafts = {member.name: draft_of(member.shape, is_required=True) for member in shape.members}
    return AlternativesDraft(shape, default, shape.members[0].name, drafts)


def _completed(shape: Shape, value: Any) -> Any:
    """Returns a value with the defaults of everything within it filled in, to compare with."""
    draft = _empty(shape, is_required=True, default=ABSENT)
    draft.fill(value)
    return draft.complete()


def _fits(member: Member, key: str | None, value: Any) -> bool:
    if key is not None:
        return isinstance(value, Mapping) and value.get(key) == member.name
    match member.shape:
        case Constant(value=constant):
            return bool(value == constant)
        case Number():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Many():
            return isinstance(value, Sequence) and not isinstance(value, str)
        case Group() | Entries():
            return isinstance(value, Mapping)
        case _:
            return isinstance(value, str)


def _read(shape: Leaf, text: str) -> Any:
    """Returns the value that a control's text stands for; a text that stands for none as it is: the API says what is wrong with it."""
    stripped = text.strip()
    value: Any = stripped
    match shape:
        case Text(is_moment=True):
            value = stripped if stripped.endswith("Z") or "+" in stripped else f"{stripped}Z"
        case Choice(values=values):
            value = next((value for value in values if str(value) == stripped), stripped)
        case Flag():
            value = {"true": True, "false": False}.get(stripped, stripped)
        case Number(is_whole=is_whole):
            value = _number(stripped, is_whole=is_whole)
        case Plain():
            parsed = _parsed(stripped)
            value = parsed if isinstance(parsed, bool | int | float) else text
        case Document():
            value = _parsed(stripped)
    return value


def _written(shape: Leaf, value: Any) -> str:
    if isinstance(shape, Document):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(shape, Text) and shape.is_moment:
        return str(value).removesuffix("Z").removesuffix("+00:00")
    return str(value)


def _number(text: str, *, is_whole: bool) -> Any:
    try:
        value = int(text) if is_whole or text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
