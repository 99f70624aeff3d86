"""How a word of feedback is written."""

from __future__ import annotations

import pytest

from quantry_gateway.feedback import read_feedback
from quantry_gateway.openai_errors import OpenAIError


def test_a_word_is_an_id_and_whether_it_approves() -> None:
    word = read_feedback(b'{"id":"chatcmpl-1","approves":false}')
    assert (word.id, word.approves) == ("chatcmpl-1", False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b"\xff", None),
        (b'{"id":"x"}', "approves"),
        (b'{"approves":true}', "id"),
        (b'{"id":"","approves":true}', "id"),
        (b'{"id":7,"approves":true}', "id"),
        (b'{"id":"x","approves":1}', "approves"),
        (b'{"id":"x","approves":"yes"}', "approves"),
        (b'{"id":"x","approves":true,"comment":"lovely"}', "comment"),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(body: bytes, field: str | None) -> None:
    with pytest.raises(OpenAIError) as caught:
        read_feedback(body)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "invalid_feedback", field)
    assert "approves" in error.message
    assert "lovely" not in error.message
