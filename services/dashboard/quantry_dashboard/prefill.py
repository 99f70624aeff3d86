"""A form's values in an address: ?type=quantize&base=bard-6m&calibration.datasets=kjv.calibration"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quantry_dashboard.drafts import LeafDraft
from quantry_dashboard.shapes import ABSENT, Alternatives, Constant, Entries, Group, Many, Maybe, Shape, is_leaf

SPEC = "spec"
MAX_ITEMS = 64


def document_of_query(shape: Group, query: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Returns the document that an address fills in: dotted names, those of the spec without ``spec.``; what has no place is left out.

    A name that is given again adds to its list.
    """
    document: Any = {}
    # What is of the spec depends on its type, wherever in the address that stands.
    for name, value in sorted(query, key=lambda given: given[0].removeprefix(f"{SPEC}.") != "type"):
        path = name.split(".")
        if path[0] not in {field.name for field in shape.fields}:
            path.insert(0, SPEC)
        document = _with(shape, document, path, value)
    return dict(document)


def _with(shape: Shape, old: Any, path: Sequence[str], text: str) -> Any:
    """Returns a value with a text put at a path; as it was where the shape has no such place."""
    value = old
    match shape:
        case Maybe(shape=inner):
            value = _with(inner, old, path, text)
        case Group():
            value = _in_group(shape, old, path, text)
        case Many(item=item):
            value = _in_list(item, old if isinstance(old, list) else [], path, text)
        case Entries(value=of) if path:
            value = {**(old or {}), ".".join(path): _with(of, None, (), text)}
        case Alternatives():
            value = _in_alternative(shape, old, path, text)
        case _ if is_leaf(shape) and not path:
            value = LeafDraft(shape, text=text).complete()
    return value


def _in_group(shape: Group, old: Any, path: Sequence[str], text: str) -> Any:
    held = old if isinstance(old, Mapping) else {}
    for field in shape.fields:
        if path and field.name == path[0]:
            value = _with(field.shape, held.get(field.name), path[1:], text)
            return held if value is ABSENT or value is None else {**held, field.name: value}
    return old


def _in_list(item: Shape, old: list[Any], path: Sequence[str], text: str) -> list[Any]:
    items = list(old)
    if path and path[0].isdecimal() and len(path[0]) < len(str(MAX_ITEMS)) + 1:
        place, path = int(path[0]), path[1:]
        if place > len(items):
            return items
    else:
        place = len(items)
    if place >= MAX_ITEMS:
        return items
    value = _with(item, items[place] if place < len(items) else None, path, text)
    if value is not None and value is not ABSENT:
        items[place : place + 1] = [value]
    return items


def _in_alternative(shape: Alternatives, old: Any, path: Sequence[str], text: str) -> Any:
    if shape.key is None:
        fitting = [member.shape for member in shape.members if not isinstance(member.shape, Constant) or str(member.shape.value) == text]
        values = (_with(member, old, path, text) for member in sorted(fitting, key=lambda member: not isinstance(member, Constant)))
        constants = [member.value for member in fitting if isinstance(member, Constant)]
        return constants[0] if constants and not path else next((value for value in values if value != old), old)
    held = dict(old) if isinstance(old, Mapping) else {}
    if list(path) in ([], [shape.key]):
        return {**held, shape.key: text} if text in {member.name for member in shape.members} else old
    for member in shape.members:
        if held.get(shape.key, member.name) == member.name:
            value = _with(member.shape, held, path, text)
            if value != held:
                return {shape.key: member.name, **value}
    return old
