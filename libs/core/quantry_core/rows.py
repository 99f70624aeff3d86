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
    """One row. ``text`` is the whole of a row of kind rows; the others are messages, a string being the user's or the assistant's."""

    kind: DatasetKind
    text: str = ""
    messages: tuple[Message, ...] = ()
    """A chat; a prompt and its response; of preferences and labelled rows the prompt, whose last message is the user's."""
    chosen: tuple[Message, ...] = ()
    """Of preferences: the better answer. It begins and ends with the assistant, as ``rejected`` and ``completion`` do."""
    rejected: tuple[Message, ...] = ()
    """Of preferences: the worse answer."""
    completion: tuple[Message, ...] = ()
    """Of labelled rows: the answer."""
    label: bool | None = None
    """Of labelled rows: whether the answer is good."""

    @property
    def all_messages(self) -> tuple[Message, ...]:
        """Its messages in order, answers after the prompt."""
        return self.messages + self.chosen + self.rejected + self.completion

    @property
    def exemplary(self) -> tuple[Message, ...]:
        """The messages that a model is meant to speak like: a prompt with its preferred or good answer. None where the label is bad."""
        return () if self.label is False else self.messages + self.chosen + self.completion

    @property
    def num_characters(self) -> int:
        """Characters of its text or messages, JSON not counted."""
        return len(self.text) + characters_of(self.all_messages)

    @property
    def parts(self) -> tuple[str, ...]:
        """All its strings in order."""
        return (self.text,) if self.kind is DatasetKind.ROWS else tuple(message.content for message in self.all_messages)

    @property
    def identity(self) -> bytes:
        """What two rows have in common that say the same, however their JSON is written."""
        match self.kind:
            case DatasetKind.ROWS:
                said: list[Any] = [self.text]
            case DatasetKind.PREFERENCES:
                said = [_said(self.messages), _said(self.chosen), _said(self.rejected)]
            case DatasetKind.LABELLED:
                said = [_said(self.messages), _said(self.completion), self.label]
            case _:
                said = _said(self.messages)
        return json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode()


def characters_of(messages: tuple[Message, ...]) -> int:
    """Returns the number of characters that messages have together."""
    return sum(len(message.content) for message in messages)


def _said(messages: tuple[Message, ...]) -> list[Any]:
    return [[message.role, message.content] for message in messages]


_OPENAI_FIELDS = ("preferred_output", "non_preferred_output")
_NEEDED = (
    'needed is "text"; "messages"; "prompt" and "response" or "completion"; these and "label"; "prompt", "chosen" and "rejected"; '
    'or "input", "preferred_output" and "non_preferred_output"'
)


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
    if told is not None and not _has_signs_of(kind, fields):
        raise BadRow(f"is a row of kind {told} among rows of kind {kind}; {_shown(fields)}")
    match kind:
        case DatasetKind.ROWS:
            return Row(kind, text=_string_of(fields, "text"))
        case DatasetKind.PROMPTS:
            prompt, response = _string_of(fields, "prompt"), _string_of(fields, _response_field(fields))
            return Row(kind, messages=(Message(Role.USER, prompt), Message(Role.ASSISTANT, response)))
        case DatasetKind.CHAT:
            return Row(kind, messages=_messages_of(fields, "messages", Role.USER))
        case DatasetKind.PREFERENCES:
            return _preferences_of(fields)
        case DatasetKind.LABELLED:
            prompt_messages = _prompt_of(fields)
            completion = _answer_of(fields, "response" if "response" in fields else "completion")
            return Row(kind, messages=prompt_messages, completion=completion, label=_label_of(fields))
        case DatasetKind.TEXT:
            raise ValueError("plain text has no rows")


def why_not_trainable(row: Row) -> str | None:
    """Returns why a model cannot learn to answer from a row; None if it can.

    Chats alone may lack what is learned: the others have an answer, or they are no rows. Methods that let the model answer itself
    need none.
    """
    if row.kind is not DatasetKind.CHAT:
        return None
    if all(message.role is not Role.ASSISTANT for message in row.messages):
        return "has no assistant turn: there is no answer to learn"
    if row.messages[-1].role is not Role.ASSISTANT:
        return f"ends with message {len(row.messages)} of the user: the last turn must be the assistant's"
    return None


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
    """Returns the kind that a row's fields tell, the one that needs most of them first; further fields are let be."""
    if {"chosen", "rejected"} & fields.keys() or fields.keys() & set(_OPENAI_FIELDS):
        return DatasetKind.PREFERENCES
    if "messages" in fields:
        return DatasetKind.CHAT
    if "label" in fields and "response" not in fields and {"prompt", "completion"} & fields.keys():
        return DatasetKind.LABELLED
    if "prompt" in fields:
        return DatasetKind.PROMPTS
    return DatasetKind.ROWS if "text" in fields else None


def _has_signs_of(kind: DatasetKind, fields: dict[str, Any]) -> bool:
    """Tells whether a row has fields by which it may be read as that kind, whatever else its other fields tell."""
    match kind:
        case DatasetKind.PREFERENCES:
            return _told_kind(fields) is kind
        case DatasetKind.LABELLED:
            return "label" in fields
        case DatasetKind.CHAT:
            return "messages" in fields
        case DatasetKind.PROMPTS:
            return "prompt" in fields
        case _:
            return "text" in fields


def _preferences_of(fields: dict[str, Any]) -> Row:
    """Returns a pair in our words, or in those of OpenAI's preference format."""
    is_openai = not {"chosen", "rejected"} & fields.keys()
    chosen_field, rejected_field = _OPENAI_FIELDS if is_openai else ("chosen", "rejected")
    prompt = _openai_prompt_of(fields) if is_openai else _prompt_of(fields)
    chosen, rejected = _answer_of(fields, chosen_field), _answer_of(fields, rejected_field)
    if type(fields[chosen_field]) is not type(fields[rejected_field]):
        raise BadRow(
            f"{chosen_field!r} is {_named(fields[chosen_field])} and {rejected_field!r} {_named(fields[rejected_field])}: "
            "the two answers of a pair are written alike"
        )
    if chosen == rejected:
        raise BadRow(f"{chosen_field!r} and {rejected_field!r} say the same: there is nothing to prefer")
    return Row(DatasetKind.PREFERENCES, messages=prompt, chosen=chosen, rejected=rejected)


def _openai_prompt_of(fields: dict[str, Any]) -> tuple[Message, ...]:
    if "input" not in fields:
        raise BadRow(f"has no field 'input'; {_shown(fields)}")
    given = fields["input"]
    if not isinstance(given, dict):
        raise BadRow(f"'input' is {_named(given)}, not an object")
    return _ends_with_user(_messages_of(given, "messages", Role.USER, "'input': "), "'input': ")


def _prompt_of(fields: dict[str, Any]) -> tuple[Message, ...]:
    """Returns the field ``prompt``: a string, or messages that end with the user's."""
    if not isinstance(fields.get("prompt"), list):
        return (Message(Role.USER, _string_of(fields, "prompt")),)
    return _ends_with_user(_messages_of(fields, "prompt", Role.USER), "'prompt': ")


def _ends_with_user(messages: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    if messages[-1].role is not Role.USER:
        raise BadRow(f"{where}ends with message {len(messages)} of the assistant: a prompt ends with the user's")
    return messages


def _answer_of(fields: dict[str, Any], name: str) -> tuple[Message, ...]:
    """Returns an answer: a string, or messages that begin and end with the assistant's."""
    if not isinstance(fields.get(name), list):
        return (Message(Role.ASSISTANT, _string_of(fields, name)),)
    messages = _messages_of(fields, name, Role.ASSISTANT)
    if messages[-1].role is not Role.ASSISTANT:
        raise BadRow(f"{name!r}: ends with message {len(messages)} of the user: an answer ends with the assistant's")
    return messages


def _response_field(fields: dict[str, Any]) -> str:
    return "completion" if "completion" in fields and "response" not in fields else "response"


def _label_of(fields: dict[str, Any]) -> bool:
    if not isinstance(fields["label"], bool):
        raise BadRow(f"'label' is {_named(fields['label'])}, not true or false")
    return fields["label"]


def _messages_of(fields: dict[str, Any], name: str, first: Role, outer: str = "") -> tuple[Message, ...]:
    """Returns the messages of a field, whose turns begin with ``first``; ``outer`` says where the fields themselves are."""
    if name not in fields:
        raise BadRow(f"{outer}has no field {name!r}; {_shown(fields)}")
    given = fields[name]
    if not isinstance(given, list):
        raise BadRow(f"{outer}{name!r} is {_named(given)}, not a list")
    if not given:
        raise BadRow(f"{outer}{name!r} is empty")
    where = outer if name == "messages" else f"{name!r}: "
    messages = tuple(_message_of(one, f"{where}message {number}: ") for number, one in enumerate(given, 1))
    _check_order(messages, first, where)
    return messages


def _message_of(given: Any, where: str) -> Message:
    if not isinstance(given, dict):
        raise BadRow(f"{where}is {_named(given)}, not an object")
    role = _string_of(given, "role", where)
    if role not in set(Role):
        raise BadRow(f"{where}the role {role[:_SHOWN_CHARS]!r} is none of {', '.join(Role)}")
    return Message(Role(role), _string_of(given, "content", where))


def _check_order(messages: tuple[Message, ...], first: Role, where: str) -> None:
    """Raises BadRow unless user and assistant take turns, ``first`` first; before a user one system message may stand."""
    begin = 1 if first is Role.USER and messages[0].role is Role.SYSTEM else 0
    turns = messages[begin:]
    if not turns:
        raise BadRow(f"{where}has a system message and nothing else")
    second = Role.ASSISTANT if first is Role.USER else Role.USER
    rule = "one system message may stand first, then" if first is Role.USER else "an answer begins with the assistant, then"
    for index, message in enumerate(turns):
        expected = first if index % 2 == 0 else second
        if message.role is not expected:
            raise BadRow(
                f"{where}message {begin + index + 1}: the role is {message.role} where {expected} is due; "
                f"{rule} user and assistant take turns"
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
