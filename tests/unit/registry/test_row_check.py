"""Rows: what is taken, what is refused and with which line, and what is counted."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.datasets import DatasetKind, DatasetStatistics
from quantry_core.errors import InvalidInput
from quantry_core.rows import MAX_ROW_BYTES, why_not_trainable
from quantry_registry.datasets.row_check import RowsCheck
from quantry_registry.datasets.statistics import DistinctTally

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Why?"}
ASSISTANT = {"role": "assistant", "content": "Because."}


def check(data: bytes, kind: DatasetKind | None = None, piece_bytes: int = 7) -> tuple[DatasetKind | None, DatasetStatistics]:
    rows = RowsCheck(kind)
    for start in range(0, len(data), piece_bytes):
        rows.feed(data[start : start + piece_bytes])
    counted = rows.finish()
    return rows.kind, counted


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def chat(*messages: Any) -> bytes:
    return lines({"messages": list(messages)})


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (lines({"text": "one"}, {"text": "two", "id": 2}), DatasetKind.ROWS),
        (lines({"prompt": "Why?", "response": "Because."}), DatasetKind.PROMPTS),
        (chat(SYSTEM, USER, ASSISTANT, USER), DatasetKind.CHAT),
        (lines({"prompt": "Why?", "completion": "Because."}), DatasetKind.PROMPTS),
        (lines({"prompt": "Why?", "chosen": "Because.", "rejected": "No."}), DatasetKind.PREFERENCES),
        (lines({"prompt": "Why?", "completion": "Because.", "label": True}), DatasetKind.LABELLED),
        (b'\n{"text": "no newline at the end"}', DatasetKind.ROWS),
        (b'{"text": "as Windows writes it"}\r\n \r\n{"text": "two"}\r\n', DatasetKind.ROWS),
    ],
)
def test_the_first_row_tells_the_kind(data: bytes, kind: DatasetKind) -> None:
    assert check(data)[0] is kind
    assert check(data, kind)[0] is kind


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "no rows"),
        (b'{"text": "a"}\nnonsense\n', "line 2 is not JSON: Expecting value at character 1"),
        (b'{"text": "a"}\n["b"]\n', "line 2 is a list, not an object"),
        (b"null\n", "line 1 is null, not an object"),
        (b'{"text": "a"}\n{"text": "b\xff"}\n', "line 2 is not UTF-8 at byte 25: invalid start byte"),
        (b'{"text": "a"}\n{"text": "b\0"}\n', "line 2 has a NUL at byte 25"),
        (lines({"text": "a\0b"}), "line 1 'text' holds a NUL"),
        (b'{"text": "a\\ud800"}\n', "line 1 'text' holds half of a surrogate pair at character 2"),
        (b'\xef\xbb\xbf{"text": "a"}\n', "line 1 begins with a byte order mark"),
        (lines({"words": "a"}), "line 1 has none of the fields of a row .*; it has words"),
        (lines({"text": 7}), "line 1 'text' is a number, not a string"),
        (lines({"text": " "}), "line 1 'text' is empty"),
        (lines({"prompt": "Why?"}), "line 1 has no field 'response'; it has prompt"),
        (lines({"prompt": "Why?", "response": None}), "line 1 'response' is null, not a string"),
        (lines({"messages": {}}), "line 1 'messages' is an object, not a list"),
        (lines({"messages": []}), "line 1 'messages' is empty"),
        (lines({"messages": ["Why?"]}), "line 1 message 1: is a string, not an object"),
        (chat({"role": "tool", "content": "x"}), "line 1 message 1: the role 'tool' is none of system, user, assistant"),
        (chat(USER, {"role": "assistant", "content": ""}), "line 1 message 2: 'content' is empty"),
        (chat(SYSTEM), "line 1 has a system message and nothing else"),
        (chat(ASSISTANT, USER), "line 1 message 1: the role is assistant where user is due"),
        (chat(USER, USER), "line 1 message 2: the role is user where assistant is due"),
        (chat(USER, SYSTEM), "line 1 message 2: the role is system where assistant is due"),
        (lines({"prompt": "Why?", "chosen": "a", "rejected": "a"}), "line 1 'chosen' and 'rejected' say the same"),
        (lines({"prompt": "Why?", "completion": "a", "label": 1}), "line 1 'label' is a number, not true or false"),
        (lines({"text": "a"}, {"prompt": "Why?", "response": "."}), "line 2 is a row of kind prompt-response among rows of kind rows"),
        (b'{"text": ' + b"[" * 200_000 + b"\n", "line 1 is nested too deeply"),
        (b'{"text": ' + b"9" * 5000 + b"}\n", "line 1 is not JSON that can be read"),
    ],
)
def test_what_is_no_row_is_refused_with_its_line(data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check(data)
    with pytest.raises(InvalidInput, match=words):
        check(data, piece_bytes=1 if len(data) < 1000 else 65536)


def test_the_kind_that_is_declared_holds() -> None:
    with pytest.raises(InvalidInput, match="line 1 is a row of kind rows among rows of kind chat"):
        check(lines({"text": "a"}), DatasetKind.CHAT)


def test_a_line_that_is_too_long_is_refused_and_those_after_it_are_read() -> None:
    longest = b'{"text": "' + b"x" * (MAX_ROW_BYTES - 12) + b'"}'
    assert len(longest) == MAX_ROW_BYTES
    assert check(longest + b"\n", piece_bytes=65536)[1].num_rows == 1
    with pytest.raises(InvalidInput) as refused:
        check(b" " + longest + b"\nnonsense\n", piece_bytes=65536)
    assert [problem.field for problem in refused.value.errors] == ["line 1", "line 2"]
    assert f"line 1 is longer than {MAX_ROW_BYTES} bytes" in refused.value.detail


def test_a_hundred_problems_are_told_and_the_others_counted() -> None:
    good = lines({"text": "a"})
    with pytest.raises(InvalidInput, match=r"line 2 is not JSON.*there are 100 problems in all, see errors") as refused:
        check(good + b"x\n" * 100)
    assert [problem.field for problem in refused.value.errors] == [f"line {line}" for line in range(2, 102)]
    with pytest.raises(InvalidInput, match=r"line 2 is not JSON.*there are 103 problems in all: 100 in errors, 3 more") as refused:
        check(good + b"x\n" * 101 + good + lines({"text": ""}, {"words": "b"}))
    assert [problem.field for problem in refused.value.errors] == [f"line {line}" for line in range(2, 102)]


def test_a_rule_refuses_rows_with_their_lines() -> None:
    rows = RowsCheck(None, why_not_trainable)
    rows.feed(chat(USER, ASSISTANT) + chat(USER) + chat(SYSTEM, USER, ASSISTANT, USER))
    with pytest.raises(InvalidInput) as refused:
        rows.finish()
    assert [(problem.field, problem.message) for problem in refused.value.errors] == [
        ("line 2", "line 2 has no assistant turn: there is no answer to learn"),
        ("line 3", "line 3 ends with message 4 of the user: the last turn must be the assistant's"),
    ]


def test_rows_that_no_answer_is_learned_from_are_taken_and_told_with_their_lines() -> None:
    good, silent, open_end = chat(USER, ASSISTANT), chat(USER), chat(SYSTEM, USER, ASSISTANT, USER)
    counted = check(good + b"\n" + silent + open_end)[1]
    assert (counted.num_rows, counted.num_untrainable_rows) == (3, 2)
    assert [(row.line, row.reason) for row in counted.untrainable_rows] == [
        (3, "has no assistant turn: there is no answer to learn"),
        (4, "ends with message 4 of the user: the last turn must be the assistant's"),
    ]
    many = check(good + silent * 103)[1]
    assert many.num_untrainable_rows == 103
    assert [row.line for row in many.untrainable_rows] == list(range(2, 102))
    assert check(lines({"text": "a"}))[1].num_untrainable_rows == 0


def test_answers_and_labels_are_counted() -> None:
    pair = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    counted = check(lines(pair, {"rejected": "No.", "chosen": "Because.", "prompt": "Why?"}))[1]
    assert (counted.num_characters, counted.num_rows, counted.num_duplicate_rows) == (30, 2, 1)
    assert (counted.num_chosen_characters, counted.num_rejected_characters, counted.num_labels) == (16, 6, None)
    good = {"prompt": "Why?", "completion": "Because.", "label": True}
    counted = check(lines(good, good | {"label": False}, good | {"completion": "So."}))[1]
    assert (counted.num_rows, counted.num_duplicate_rows, counted.num_labels) == (3, 0, {"true": 2, "false": 1})
    assert (counted.num_chosen_characters, counted.num_messages) == (None, None)


@given(texts=st.lists(st.text(min_size=1, max_size=30).filter(lambda text: text.strip() and "\0" not in text), min_size=1, max_size=30))
def test_rows_are_counted_as_python_counts_them(texts: list[str]) -> None:
    data = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    _, counted = check(data)
    lengths = sorted(len(text) for text in texts)
    characters = "".join(texts)
    assert counted.num_rows == counted.num_lines == len(texts)
    assert counted.num_characters == len(characters)
    assert counted.non_ascii_share == round(sum(ord(one) > 127 for one in characters) / len(characters), 4)
    assert (counted.row_characters_min, counted.row_characters_max) == (lengths[0], lengths[-1])
    assert counted.row_characters_mean == round(statistics.fmean(lengths), 2)
    assert counted.row_characters_p50 == statistics.median_low(lengths)
    assert counted.row_characters_p95 == lengths[-(-95 * len(lengths) // 100) - 1]
    assert (counted.num_duplicate_rows, counted.is_duplicates_estimated) == (len(texts) - len(set(texts)), False)


def test_messages_are_counted_by_role_and_rows_that_say_the_same_are_duplicates() -> None:
    data = chat(SYSTEM, USER, ASSISTANT) + chat(USER) + b'{"id": 1, "messages":[{"content":"Why?","role":"user"}]}\n'
    _, counted = check(data)
    assert counted.num_messages == {"assistant": 1, "system": 1, "user": 3}
    assert counted.num_duplicate_rows == 1


def test_lengths_of_long_rows_are_told_within_a_hundredth() -> None:
    lengths = range(2000, 40_000, 37)
    _, counted = check(lines(*({"text": "x" * length} for length in lengths)), piece_bytes=1 << 20)
    for percent, told in ((50, counted.row_characters_p50), (95, counted.row_characters_p95)):
        exact = lengths[-(-percent * len(lengths) // 100) - 1]
        assert told is not None
        assert 0.99 * exact <= told <= exact


def test_many_different_things_are_estimated_in_bounded_memory() -> None:
    tally = DistinctTally(max_kept=1000)
    for number in range(50_000):
        tally.add(str(number % 40_000).encode())
    assert not tally.is_exact
    # The standard error of adaptive sampling is about 1.2 / sqrt(kept): this is four of them.
    assert tally.estimate == pytest.approx(40_000, rel=4 * 1.2 / 500**0.5)
