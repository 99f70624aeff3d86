"""Rows of each kind: how they are told apart, what they hold, and what is no row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quantry_core.datasets import DatasetKind
from quantry_core.rows import BadRow, Message, Role, kind_of_row, parse_row, why_not_trainable

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Why?"}
ASSISTANT = {"role": "assistant", "content": "Because."}
OTHER = {"role": "assistant", "content": "No."}

ASKED = Message(Role.USER, "Why?")
ANSWERED = Message(Role.ASSISTANT, "Because.")
OTHERWISE = Message(Role.ASSISTANT, "No.")

PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
OPENAI_PAIR = {
    "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [ASSISTANT],
    "non_preferred_output": [OTHER],
}
LABELLED = {"prompt": "Why?", "completion": "Because.", "label": True}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"text": "a", "label": True}, DatasetKind.ROWS),
        ({"prompt": "a", "response": "b"}, DatasetKind.PROMPTS),
        ({"prompt": "a", "completion": "b"}, DatasetKind.PROMPTS),
        ({"prompt": "a", "response": "b", "label": "spam"}, DatasetKind.PROMPTS),
        ({"messages": [], "prompt": "a"}, DatasetKind.CHAT),
        (PAIR, DatasetKind.PREFERENCES),
        (PAIR | {"messages": [USER]}, DatasetKind.PREFERENCES),
        ({"prompt": "a", "chosen": "b"}, DatasetKind.PREFERENCES),
        (OPENAI_PAIR, DatasetKind.PREFERENCES),
        (LABELLED, DatasetKind.LABELLED),
        ({"prompt": "a", "label": True}, DatasetKind.LABELLED),
        ({"completion": "a", "label": True}, DatasetKind.LABELLED),
    ],
)
def test_the_fields_tell_the_kind(fields: dict[str, Any], kind: DatasetKind) -> None:
    assert kind_of_row(json.dumps(fields)) is kind


def test_no_kind_is_told_by_fields_that_are_none_of_them() -> None:
    with pytest.raises(BadRow, match=r'needed is "text"; "messages"; .*; it has input, label'):
        kind_of_row(json.dumps({"input": {}, "label": True}))


@pytest.mark.parametrize(
    "fields",
    [
        PAIR,
        PAIR | {"prompt": [USER]},
        PAIR | {"chosen": [ASSISTANT], "rejected": [OTHER], "score": 3},
        OPENAI_PAIR,
    ],
)
def test_a_pair_is_read_in_each_writing(fields: dict[str, Any]) -> None:
    row = parse_row(DatasetKind.PREFERENCES, json.dumps(fields))
    assert (row.messages, row.chosen, row.rejected) == ((ASKED,), (ANSWERED,), (OTHERWISE,))
    assert row.exemplary == (ASKED, ANSWERED)
    assert row.parts == ("Why?", "Because.", "No.")
    assert row.num_characters == 15
    assert row.identity == parse_row(DatasetKind.PREFERENCES, json.dumps(PAIR)).identity
    swapped = parse_row(DatasetKind.PREFERENCES, json.dumps({"prompt": "Why?", "chosen": "No.", "rejected": "Because."}))
    assert row.identity != swapped.identity


def test_answers_may_have_more_turns() -> None:
    fields = {"prompt": [SYSTEM, USER], "chosen": [ASSISTANT, USER, OTHER], "rejected": [OTHER]}
    row = parse_row(DatasetKind.PREFERENCES, json.dumps(fields))
    assert row.chosen == (ANSWERED, ASKED, OTHERWISE)
    assert row.messages == (Message(Role.SYSTEM, "Be brief."), ASKED)


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("completion", ["Because.", [ASSISTANT]])
def test_a_labelled_row_says_whether_its_answer_is_good(completion: Any, label: bool) -> None:
    row = parse_row(DatasetKind.LABELLED, json.dumps({"prompt": "Why?", "completion": completion, "label": label}))
    assert (row.messages, row.completion, row.label) == ((ASKED,), (ANSWERED,), label)
    assert row.exemplary == ((ASKED, ANSWERED) if label else ())
    same = row.identity == parse_row(DatasetKind.LABELLED, json.dumps(LABELLED)).identity
    assert same is label


def test_completion_stands_for_response() -> None:
    for fields in ({"prompt": "Why?", "completion": "Because."}, {"prompt": "Why?", "response": "Because.", "completion": "x"}):
        assert parse_row(DatasetKind.PROMPTS, json.dumps(fields)).messages == (ASKED, ANSWERED)
    assert parse_row(DatasetKind.LABELLED, json.dumps({"prompt": "Why?", "response": "Because.", "label": True})).completion == (ANSWERED,)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (DatasetKind.PREFERENCES, {"prompt": "a", "chosen": "b"}, "has no field 'rejected'; it has prompt, chosen"),
        (DatasetKind.PREFERENCES, {"chosen": "a", "rejected": "b"}, "has no field 'prompt'"),
        (DatasetKind.PREFERENCES, PAIR | {"chosen": ""}, "'chosen' is empty"),
        (DatasetKind.PREFERENCES, PAIR | {"rejected": " "}, "'rejected' is empty"),
        (DatasetKind.PREFERENCES, PAIR | {"prompt": []}, "'prompt' is empty"),
        (DatasetKind.PREFERENCES, PAIR | {"prompt": 7}, "'prompt' is a number, not a string"),
        (DatasetKind.PREFERENCES, PAIR | {"rejected": "Because."}, "'chosen' and 'rejected' say the same: there is nothing to prefer"),
        (DatasetKind.PREFERENCES, PAIR | {"rejected": [OTHER]}, "'chosen' is a string and 'rejected' a list: the two answers of a pair"),
        (
            DatasetKind.PREFERENCES,
            PAIR | {"chosen": [USER], "rejected": [OTHER]},
            "'chosen': message 1: the role is user where assistant is",
        ),
        (DatasetKind.PREFERENCES, PAIR | {"chosen": [ASSISTANT, USER]}, "'chosen': ends with message 2 of the user"),
        (DatasetKind.PREFERENCES, PAIR | {"prompt": [USER, ASSISTANT]}, "'prompt': ends with message 2 of the assistant"),
        (DatasetKind.PREFERENCES, PAIR | {"prompt": [SYSTEM]}, "'prompt': has a system message and nothing else"),
        (DatasetKind.PREFERENCES, PAIR | {"prompt": [{"role": "user"}]}, "'prompt': message 1: has no field 'content'"),
        (DatasetKind.PREFERENCES, OPENAI_PAIR | {"input": "Why?"}, "'input' is a string, not an object"),
        (DatasetKind.PREFERENCES, OPENAI_PAIR | {"input": {}}, "'input': has no field 'messages'; it has no fields"),
        (DatasetKind.PREFERENCES, OPENAI_PAIR | {"input": {"messages": [ASSISTANT]}}, "'input': message 1: the role is assistant"),
        (
            DatasetKind.PREFERENCES,
            OPENAI_PAIR | {"preferred_output": [OTHER]},
            "'preferred_output' and 'non_preferred_output' say the same",
        ),
        (DatasetKind.PREFERENCES, {"preferred_output": [OTHER], "non_preferred_output": [ASSISTANT]}, "has no field 'input'"),
        (DatasetKind.PREFERENCES, {"prompt": "a", "response": "b"}, "is a row of kind prompt-response among rows of kind preferences"),
        (DatasetKind.LABELLED, {"prompt": "a", "label": True}, "has no field 'completion'"),
        (DatasetKind.LABELLED, {"completion": "a", "label": True}, "has no field 'prompt'"),
        (DatasetKind.LABELLED, LABELLED | {"label": "true"}, "'label' is a string, not true or false"),
        (DatasetKind.LABELLED, LABELLED | {"label": None}, "'label' is null, not true or false"),
        (DatasetKind.LABELLED, LABELLED | {"completion": []}, "'completion' is empty"),
        (
            DatasetKind.LABELLED,
            {"prompt": "a", "completion": "b"},
            "is a row of kind prompt-response among rows of kind labelled; it has prompt, completion",
        ),
    ],
)
def test_what_is_no_row_is_told(kind: DatasetKind, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRow) as refused:
        parse_row(kind, json.dumps(fields))
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (DatasetKind.CHAT, {"messages": [USER]}, "has no assistant turn: there is no answer to learn"),
        (DatasetKind.CHAT, {"messages": [SYSTEM, USER, ASSISTANT, USER]}, "ends with message 4 of the user"),
        (DatasetKind.CHAT, {"messages": [SYSTEM, USER, ASSISTANT]}, None),
        (DatasetKind.ROWS, {"text": "a"}, None),
        (DatasetKind.PROMPTS, {"prompt": "a", "completion": "b"}, None),
        (DatasetKind.PREFERENCES, PAIR, None),
        (DatasetKind.LABELLED, LABELLED | {"label": False}, None),
    ],
)
def test_what_cannot_be_learned_from_is_told(kind: DatasetKind, fields: dict[str, Any], words: str | None) -> None:
    reason = why_not_trainable(parse_row(kind, json.dumps(fields)))
    assert reason is None if words is None else (reason or "").startswith(words)
