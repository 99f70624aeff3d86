"""What of a captured prompt can be a row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quantry_registry.captures.prompts import rows_of

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def rows(path: str, prompt: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rows_of(path, json.dumps(prompt)).lines]


def test_a_text_is_a_row_and_several_are_several() -> None:
    assert rows(TEXT, "once") == [{"text": "once"}]
    assert rows(TEXT, ["once", "upon"]) == [{"text": "once"}, {"text": "upon"}]


def test_a_chat_is_one_row() -> None:
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello", "name": "ada"}]
    assert rows(CHAT, chat) == [{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]}]


def test_finds_are_counted_over_all_messages() -> None:
    found = rows_of(CHAT, json.dumps([{"role": "user", "content": "a@b.de"}, {"role": "assistant", "content": "c@d.de and 10.0.0.1"}]))
    assert found.num_scrubbed == {"email": 2, "ip": 1}
    assert b"@" not in b"".join(found.lines)


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        (TEXT, [1, 2, 3]),
        (TEXT, [[1], [2]]),
        (TEXT, ""),
        (TEXT, None),
        (TEXT, ["good", ""]),
        (CHAT, "hello"),
        (CHAT, []),
        (CHAT, [7]),
        (CHAT, [{"role": "user"}]),
        (CHAT, [{"role": "user", "content": 7}]),
        (CHAT, [{"role": "user", "content": [{"type": "text"}]}]),
        (CHAT, [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]),
        (CHAT, [{"role": "assistant", "content": "I begin"}]),
        (CHAT, [{"role": "tool", "content": "42"}]),
    ],
)
def test_what_is_no_row_is_left_out(path: str, prompt: Any) -> None:
    assert rows(path, prompt) == []


@pytest.mark.parametrize("body", ["", "{", "[" * 100_000])
def test_what_is_no_json_is_left_out(body: str) -> None:
    assert rows_of(CHAT, body).lines == []
