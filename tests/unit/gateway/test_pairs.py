"""What is asked of two releases, and how their answers are compared."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.traffic import MAX_DIVERGENCE
from quantry_gateway.pairs import CHAT_PATH, COMPLETIONS_PATH, NoPair, NotComparable, ScoredToken, compare, model_of, pair_body, tokens_of


def asked(path: str, live: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(pair_body(path, json.dumps(live).encode(), max_tokens=16))
    return document


def tokens(*pairs: tuple[str, float]) -> list[ScoredToken]:
    return [ScoredToken(text, logprob) for text, logprob in pairs]


def test_a_chat_is_asked_again_greedily_and_without_what_does_not_make_its_prompt() -> None:
    messages = [{"role": "user", "content": "Shall I compare thee?"}]
    live = {
        "model": "bard",
        "messages": messages,
        "temperature": 1.3,
        "top_p": 0.2,
        "n": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop": ["\n"],
        "user": "will",
        "seed": 7,
        "response_format": {"type": "json_object"},
        "max_completion_tokens": 900,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert asked(CHAT_PATH, live) == {
        "model": "bard",
        "messages": messages,
        "chat_template_kwargs": {"enable_thinking": False},
        "temperature": 0,
        "n": 1,
        "max_tokens": 16,
        "stream": False,
        "return_token_ids": True,
        "logprobs": True,
    }


def test_tools_stay_in_the_prompt_and_are_not_called() -> None:
    tools = [{"type": "function", "function": {"name": "sonnet"}}]
    document = asked(CHAT_PATH, {"model": "bard", "messages": [{}], "tools": tools, "tool_choice": "required"})
    assert (document["tools"], document["tool_choice"]) == (tools, "none")


@pytest.mark.parametrize(
    ("prompt", "first"),
    [("To be", "To be"), (["To be", "or not"], "To be"), ([5, 6, 7], [5, 6, 7]), ([[5, 6], [7]], [5, 6])],
)
def test_of_several_prompts_the_first_is_asked(prompt: object, first: object) -> None:
    document = asked(COMPLETIONS_PATH, {"model": "bard", "prompt": prompt, "echo": True, "best_of": 4, "suffix": None})
    assert document == {
        "model": "bard",
        "prompt": first,
        "temperature": 0,
        "n": 1,
        "max_tokens": 16,
        "stream": False,
        "return_token_ids": True,
        "logprobs": 1,
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"prompt":""}', b'{"prompt":[]}', b'{"prompt":[[]]}', b'{"prompt":7}', b"\xff"])
def test_what_has_no_prompt_makes_no_pair(body: bytes) -> None:
    with pytest.raises(NoPair):
        pair_body(COMPLETIONS_PATH, body, max_tokens=16)
    with pytest.raises(NoPair):
        pair_body(CHAT_PATH, body, max_tokens=16)


def test_the_model_is_read_or_there_is_no_pair() -> None:
    assert model_of(b'{"model":"bard"}') == "bard"
    for body in (b"{}", b'{"model":7}', b"nothing"):
        with pytest.raises(NoPair):
            model_of(body)


def test_tokens_are_read_in_both_shapes() -> None:
    expected = tokens((" or", -0.5), (" not", -2.0))
    older = {"choices": [{"logprobs": {"tokens": [" or", " not"], "token_logprobs": [-0.5, -2], "text_offset": [0, 3]}}]}
    newer = {"choices": [{"logprobs": {"content": [{"token": " or", "logprob": -0.5}, {"token": " not", "logprob": -2}]}}]}
    assert tokens_of(json.dumps(older).encode()) == expected
    assert tokens_of(json.dumps(newer).encode()) == expected
    assert tokens_of(b'{"choices":[{"logprobs":{"content":[]}}]}') == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"logprobs":null}]}',
        b'{"choices":[{"logprobs":{"tokens":["a","b"],"token_logprobs":[-1]}}]}',
        b'{"choices":[{"logprobs":{"tokens":["a"],"token_logprobs":[null]}}]}',
        b'{"choices":[{"logprobs":{"tokens":["a"],"token_logprobs":[NaN]}}]}',
        b'{"choices":[{"logprobs":{"tokens":["a"],"token_logprobs":[-Infinity]}}]}',
        b'{"choices":[{"logprobs":{"tokens":["a"],"token_logprobs":["-1"]}}]}',
        b'{"choices":[{"logprobs":{"tokens":[null],"token_logprobs":[-1]}}]}',
        b'{"choices":[{"logprobs":{"content":[{"token":"a"}]}}]}',
    ],
)
def test_what_has_no_finite_logprobs_cannot_be_compared(body: bytes) -> None:
    with pytest.raises(NotComparable):
        tokens_of(body)


def test_equal_answers_do_not_disagree() -> None:
    answer = tokens(("a", -0.1), ("b", -3.0))
    score = compare(answer, answer)
    assert (score.disagreement, score.divergence) == (0.0, 0.0)
    empty = compare([], [])
    assert (empty.disagreement, empty.divergence) == (0.0, 0.0)


def test_positions_count_after_the_first_difference_and_logprobs_before_it() -> None:
    stable = tokens(("a", -0.5), ("b", -0.5), ("c", -0.5), ("d", -0.5))
    candidate = tokens(("a", -0.75), ("b", -0.25), ("x", -9.0), ("d", -9.0))
    score = compare(stable, candidate)
    assert score.disagreement == 0.25
    assert score.divergence == pytest.approx(0.25)


def test_a_shorter_answer_lacks_its_last_positions() -> None:
    score = compare(tokens(("a", -1.0), ("b", -1.0), ("c", -1.0), ("d", -1.0)), tokens(("a", -1.0)))
    assert score.disagreement == 0.75
    assert score.divergence == 0.0
    assert compare(tokens(("a", -1.0)), []).disagreement == 1.0


def test_a_pair_that_shares_nothing_says_nothing_of_logprobs() -> None:
    score = compare(tokens(("a", -1.0), ("b", -1.0)), tokens(("b", -9.0), ("a", -9.0)))
    assert (score.disagreement, score.divergence) == (1.0, 0.0)


def test_divergence_is_cut() -> None:
    assert compare(tokens(("a", 0.0)), tokens(("a", -9999.0))).divergence == MAX_DIVERGENCE


ANSWERS = st.lists(st.builds(ScoredToken, st.sampled_from("abc"), st.floats(-20, 0)), max_size=12)


@given(ANSWERS, ANSWERS)
def test_scores_are_bounded_and_do_not_depend_on_who_is_first(one: list[ScoredToken], other: list[ScoredToken]) -> None:
    score = compare(one, other)
    assert score == compare(other, one)
    assert 0.0 <= score.disagreement <= 1.0
    assert 0.0 <= score.divergence <= MAX_DIVERGENCE
    assert (score.disagreement == 0.0) == ([token.text for token in one] == [token.text for token in other])
