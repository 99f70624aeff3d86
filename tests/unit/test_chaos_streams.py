"""What the clients of the chaos scenarios take for a whole answer: a scenario is only as sharp as they are."""

from __future__ import annotations

import json

import pytest

from chaos.streams import TOKENS_PER_REQUEST, Asked, Ending, Streams, hear

TOKEN = b"data: " + json.dumps({"system_fingerprint": "fake", "choices": [{"delta": {"content": " be"}}]}).encode()
ERROR = b'data: {"error": {"message": "it broke off"}}'
DONE = b"data: [DONE]"


def heard(*lines: bytes) -> Asked:
    one = Asked(1.0)
    for line in lines:
        hear(line, one)
    return one


def test_an_answer_with_all_its_tokens_is_whole() -> None:
    one = heard(*[TOKEN, b""] * TOKENS_PER_REQUEST, DONE)
    assert (one.ending, one.answered_by) == (Ending.DONE, "fake")


def test_an_answer_without_its_end_is_cut() -> None:
    assert heard(*[TOKEN] * TOKENS_PER_REQUEST).ending is Ending.CUT


def test_an_end_that_comes_too_early_hides_no_cut() -> None:
    one = heard(TOKEN, TOKEN, DONE)
    assert (one.ending, one.words) == (Ending.CUT, f"2 of {TOKENS_PER_REQUEST} tokens")


def test_an_error_is_told_whatever_follows() -> None:
    one = heard(TOKEN, ERROR, DONE)
    assert one.ending is Ending.TOLD
    assert one.last_event_s


def test_half_a_line_is_an_error_that_a_client_counts() -> None:
    one = Asked(1.0)
    with pytest.raises(ValueError, match="Unterminated"):
        hear(b'data: {"choi', one)
    assert one.ending is Ending.CUT


def test_a_request_whose_end_nobody_heard_counts_as_cut() -> None:
    whole = Asked(1.0, ending=Ending.DONE, ended_s=2.0)
    streams = Streams([whole, Asked(1.5)])
    assert streams.counts()[Ending.CUT] == 0
    streams.close()
    assert streams.counts() == {"done": 1, "told": 0, "cut": 1, "refused": 0}
