"""Rows of a dataset: one line of JSON each, read and checked by its kind. Shared by the registry, which refuses, and the child."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from quantry_core.datasets import DatasetKind

MAX_ROW_BYTES = 1024**2
"""The longest line of JSON Lines that is taken: a row is the largest thing of a dataset that is ever held in memory."""

_SHOWN_CHARS = 40


class BadRow(ValueError):
    """What was given is no row of a dataset; the message says why."""


class Role(StrEnum):
    """Who says a message of a chat."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True)
class Row:
    """One row. ``text`` is the whole of a row of kind rows; the two others are messages, a prompt being the user's."""

    kind: DatasetKind
    text: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def num_characters(self) -> int:
        """Characters of its text or messages, JSON not counted."""
        return len(self.text) + sum(len(message.content) for message in self.messages)

    @property
    def parts(self) -> tuple[str, ...]:
        """All its strings in order."""
        return (self.text,) if self.kind is DatasetKind.ROWS else tuple(message.content for message in self.messages)

    @property
    def identity(self) -> bytes:
        """What two rows have in common that say the same, however their JSON is written."""
        said = [self.text] if self.kind is DatasetKind.ROWS else [[message.role, message.content] for message in self.messages]
        return json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode()


_FIELDS: dict[DatasetKind, str] = {DatasetKind.CHAT: "messages", DatasetKind.PROMPTS: "prompt", DatasetKind.ROWS: "text"}
"""The field that tells a row's kind. Looked for in this order; further fields are let be."""

_NEEDED = 'needed is "text", "prompt" and "response", or "messages"'


def kind_of_row(line: str) -> DatasetKind:
    """Returns the kind that a line of JSON has by its fields; raises BadRow."""
    fields = _object_of(line)
    kind = _told_kind(fields)
    if kind is None:
        raise BadRow(f"has none of the fields of a row ({_NEEDED}); {_shown(fields)}")
    return kind


def parse_row(kind: DatasetKind, line: str) -> Row:
    """Returns the row of that kind that a line of JSON holds; raises BadRow saying what is wrong with it."""
    fields = _object_of(line)
    told = _told_kind(fields)
    if _FIELDS[kind] not in fields and told is not None:
        raise BadRow(f"is a row of kind {told} among rows of kind {kind}")
    match kind:
        case DatasetKind.ROWS:
            return Row(kind, text=_string_of(fields, "text"))
        case DatasetKind.PROMPTS:
            prompt, response = _string_of(fields, "prompt"), _string_of(fields, "response")
            return Row(kind, messages=(Message(Role.USER, prompt), Message(Role.ASSISTANT, response)))
        case DatasetKind.CHAT:
            return Row(kind, messages=_messages_of(fields))
        case DatasetKind.TEXT:
            raise ValueError("plain text has no rows")


def _object_of(line: str) -> dict[str, Any]:
    if line.startswith("\ufeff"):
        raise BadRow("begins with a byte order mark; save the file without one")
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise BadRow("is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise BadRow(f"is not JSON: {error.msg} at character {error.pos + 1}") from error
    except ValueError as error:
        raise BadRow(f"is not JSON that can be read: {error}") from error
    if not isinstance(value, dict):
        raise BadRow(f"is {_named(value)}, not an object")
    return value


def _told_kind(fields: dict[str, Any]) -> DatasetKind | None:
    return next((kind for kind, field in _FIELDS.items() if field in fields), None)


def _messages_of(fields: dict[str, Any]) -> tuple[Message, ...]:
    if "messages" not in fields:
        raise BadRow(f"has no field 'messages'; {_shown(fields)}")
    given = fields["messages"]
    if not isinstance(given, list):
        raise BadRow(f"'messages' is {_named(given)}, not a list")
    if not given:
        raise BadRow("'messages' is empty")
    messages = tuple(_message_of(one, number) for number, one in enumerate(given, 1))
    _check_order(messages)
    return messages


def _message_of(given: Any, number: int) -> Message:
    where = f"message {number}: "
    if not isinstance(given, dict):
        raise BadRow(f"{where}is {_named(given)}, not an object")
    role = _string_of(given, "role", where)
    if role not in set(Role):
        raise BadRow(f"{where}the role {role[:_SHOWN_CHARS]!r} is none of {', '.join(Role)}")
    return Message(Role(role), _string_of(given, "content", where))


def _check_order(messages: tuple[Message, ...]) -> None:
    """Raises BadRow unless user and assistant take turns, the user first, after one system message at most."""
    begin = 1 if messages[0].role is Role.SYSTEM else 0
    turns = messages[begin:]
    if not turns:
        raise BadRow("has a system message and nothing else")
    for index, message in enumerate(turns):
        expected = Role.USER if index % 2 == 0 else Role.ASSISTANT
        if message.role is not expected:
            raise BadRow(
                f"message {begin + index + 1}: the role is {message.role} where {expected} is due; "
                "one system message may stand first, then user and assistant take turns"
            )


def _string_of(fields: dict[str, Any], name: str, where: str = "") -> str:
    if name not in fields:
        raise BadRow(f"{where}has no field {name!r}; {_shown(fields)}")
    value = fields[name]
    if not isinstance(value, str):
        raise BadRow(f"{where}{name!r} is {_named(value)}, not a string")
    if not value.strip():
        raise BadRow(f"{where}{name!r} is empty")
    if "\0" in value:
        raise BadRow(f"{where}{name!r} holds a NUL")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRow(f"{where}{name!r} holds half of a surrogate pair at character {error.start + 1}") from error
    return value


def _shown(fields: dict[str, Any]) -> str:
    """Returns the fields that there are, in words."""
    names = [name[:_SHOWN_CHARS].encode("unicode_escape").decode() for name in list(fields)[:5]]
    return f"it has {', '.join(names)}{' and more' if len(fields) > len(names) else ''}" if names else "it has no fields"


def _named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
