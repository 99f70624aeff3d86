"""What an engine's answer says of itself."""

from __future__ import annotations

import json

import pytest

from quantry_gateway.answers import Said, holds_error, said_by

USAGE = {"prompt_tokens": 7, "total_tokens": 19, "completion_tokens": 12}


def chat(content: str = "To be", finish_reason: str = "stop", **more: object) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, "refusal": None} | more, "finish_reason": finish_reason}
    return json.dumps(
        {"id": "chatcmpl-7", "object": "chat.completion", "choices": [choice], "usage": USAGE, "prompt_logprobs": None}
    ).encode()


def test_a_whole_answer() -> None:
    answer = chat()
    assert said_by(answer, answer) == Said("chatcmpl-7", 7, 12, is_filtered=False)
    compact = answer.replace(b": ", b":").replace(b", ", b",")
    assert said_by(compact, compact) == Said("chatcmpl-7", 7, 12, is_filtered=False)


def test_usage_in_front_of_much_else_is_found() -> None:
    answer = chat()[:-1] + b', "prompt_logprobs": [' + b"0.5, " * 2000 + b"0.5]}"
    assert said_by(answer, answer).completion_tokens == 12


@pytest.mark.parametrize(
    "answer", [chat(finish_reason="content_filter"), chat(refusal="I cannot"), chat(refusal="no").replace(b": ", b":")]
)
def test_a_filtered_answer(answer: bytes) -> None:
    assert said_by(answer, answer).is_filtered


def test_words_inside_of_texts_are_no_fields() -> None:
    text = '"usage": {"prompt_tokens": 99}, "refusal": "x", "finish_reason": "content_filter", "content_filter"'
    answer = json.dumps({"choices": [{"text": text, "finish_reason": "stop"}]}).encode()
    assert said_by(answer, answer) == Said()


def test_embeddings_have_no_completion() -> None:
    answer = b'{"id":"embd-1","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
    assert said_by(answer, answer) == Said("embd-1", 3, None)


def test_a_stream_says_its_id_first_and_its_usage_last() -> None:
    head = b'data: {"id":"cmpl-9","choices":[{"text":"a"}]}\n\n'
    tail = b'data: {"id":"cmpl-9","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
    assert said_by(head, head + tail) == Said("cmpl-9", 1, 2)
    assert said_by(head, head + b"data: [DONE]\n\n") == Said("cmpl-9")


@pytest.mark.parametrize("answer", [b"", b"{}", b"not json", b'{"usage": null}', b'{"id": 7, "usage": {"prompt_tokens": "7"}}'])
def test_what_says_nothing(answer: bytes) -> None:
    assert said_by(answer, answer) == Said()


@pytest.mark.parametrize(
    ("events", "holds"),
    [
        (b'data: {"error":{"message":"dead","code":500}}\n\n', True),
        (b'data: {"error": {"message": "dead"}}\n\ndata: [DONE]\n\n', True),
        (b'data: {"object":"error","message":"dead"}\n\n', True),
        (b'data: {"id":"c1","choices":[]}\n\ndata: {"error":{"message":"dead"}}\n\n', True),
        (b'data: {"id":"c1","error":null,"choices":[]}\n\n', False),
        (b'data: {"error":null,"id":"c1"}\n\n', False),
        (b'data: {"choices":[{"text":"data: {\\"error\\":{}}"}]}\n\n', False),
    ],
)
def test_an_error_among_events(events: bytes, holds: bool) -> None:
    assert holds_error(events) is holds
