"""How a candidate scores what the stable release wrote."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.traffic import MAX_DIVERGENCE
from quantry_gateway.pairs import NotComparable, ScoredToken
from quantry_gateway.scores import CLEAR_NATS, TokenScore, Written, compare_scored, score_body, scores_of, written_by

WRITTEN = Written(prompt=[5, 6], answer=[7, 8])


def told(*entries: dict[str, Any] | None) -> bytes:
    return json.dumps({"choices": [{"text": "", "prompt_logprobs": list(entries)}]}).encode()


def ranked(**tokens: tuple[int, float | None]) -> dict[str, Any]:
    return {name.lstrip("t"): {"rank": rank, "logprob": logprob, "decoded_token": "x"} for name, (rank, logprob) in tokens.items()}


def tokens(*logprobs: float, text: str = "abcdef") -> list[ScoredToken]:
    return [ScoredToken(one, logprob) for one, logprob in zip(text, logprobs, strict=False)]


def clear(*logprobs: float) -> list[TokenScore]:
    return [TokenScore(logprob, lead_nats=2.0) for logprob in logprobs]


def test_ids_are_found_in_both_shapes() -> None:
    assert written_by(b'{"choices":[{"token_ids":[7,8],"prompt_token_ids":[5,6]}]}') == WRITTEN
    assert written_by(b'{"choices":[{"token_ids":[7,8]}],"prompt_token_ids":[5,6]}') == WRITTEN


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{}]}',
        b'{"choices":[{"token_ids":null,"prompt_token_ids":[5]}]}',
        b'{"choices":[{"token_ids":[7]}]}',
        b'{"choices":[{"token_ids":[],"prompt_token_ids":[5]}]}',
        b'{"choices":[{"token_ids":["7"],"prompt_token_ids":[5]}]}',
    ],
)
def test_an_engine_may_not_tell_ids(body: bytes) -> None:
    assert written_by(body) is None


def test_scores_are_asked_for_prompt_and_answer() -> None:
    asked = json.loads(score_body("bard", WRITTEN))
    assert asked == {"model": "bard", "prompt": [5, 6, 7, 8], "temperature": 0, "max_tokens": 1, "stream": False, "prompt_logprobs": 2}


def test_scores_are_those_of_the_answer() -> None:
    first, second = ranked(t7=(1, -0.25), t9=(2, -1.5)), ranked(t9=(1, -0.5), t3=(2, -1.0), t8=(40, -9.0))
    assert scores_of(told(None, ranked(t6=(1, -1.0)), first, second), WRITTEN) == [TokenScore(-0.25, 1.25), TokenScore(-9.0, None)]
    alone = ranked(t7=(1, -0.25))
    assert scores_of(told(None, ranked(t6=(1, -1.0)), alone, alone | ranked(t8=(2, -0.5))), WRITTEN) == [
        TokenScore(-0.25, math.inf),
        TokenScore(-0.5, None),
    ]


def test_an_engine_may_have_no_scores() -> None:
    assert scores_of(b'{"choices":[{"text":"x"}]}', WRITTEN) is None
    assert scores_of(b'{"choices":[{"text":"x","prompt_logprobs":null}]}', WRITTEN) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"choices":[]}',
        told(None),
        told(None, None, None, None),
        told(None, None, ranked(t7=(1, -1.0)), ranked(t9=(1, -1.0))),
        told(None, None, ranked(t7=(1, -1.0)), ranked(t8=(1, math.nan))),
        told(None, None, ranked(t7=(1, -1.0)), ranked(t8=(1, None))),
        told(None, None, ranked(t7=(1, -1.0)), ranked(t8=(1, -1.0), t9=(2, -math.inf))),
        told(None, None, {"7": {"logprob": -1.0}}, ranked(t8=(1, -1.0))),
    ],
)
def test_scores_that_are_no_numbers_are_a_failure(body: bytes) -> None:
    with pytest.raises(NotComparable):
        scores_of(body, WRITTEN)


def test_equal_releases_agree() -> None:
    stable = tokens(-0.5, -1.0, -0.25)
    score = compare_scored(stable, clear(-0.5, -1.0, -0.25), stable)
    assert (score.disagreement, score.divergence) == (0.0, 0.0)


def test_a_near_tie_counts_once_and_not_all_that_follows() -> None:
    stable, own = tokens(-0.5, -0.5, -0.5, -0.5), tokens(-0.5, -0.5, -0.5, -0.5, text="axyz")
    scores = [TokenScore(-0.5, 2.0), TokenScore(-0.75, None), TokenScore(-0.5, 2.0), TokenScore(-0.75, 2.0)]
    score = compare_scored(stable, scores, own)
    assert score.disagreement == 0.25
    assert score.divergence == pytest.approx(0.125)


def test_an_answer_against_its_own_clear_scores_differs_from_there_on() -> None:
    stable, own = tokens(-0.5, -0.5, -0.5, -0.5), tokens(-0.5, -0.5, -0.5, -0.5, text="axcd")
    assert compare_scored(stable, clear(-0.5, -0.5, -0.5, -0.5), own).disagreement == 0.75
    tie = [TokenScore(-0.5, 2.0), TokenScore(-0.5, CLEAR_NATS), TokenScore(-0.5, 2.0), TokenScore(-0.5, 2.0)]
    assert compare_scored(stable, tie, own).disagreement == 0.0
    assert compare_scored(stable, clear(-0.5, -0.5, -0.5, -0.5), []).disagreement == 1.0


def test_the_logprob_that_is_further_off_counts() -> None:
    stable, own = tokens(-0.5, -0.5), tokens(-1.5, -0.5)
    assert compare_scored(stable, clear(-0.5, -0.75), own).divergence == pytest.approx(0.625)
    assert compare_scored(stable, clear(-99.0, -0.5), own).divergence == MAX_DIVERGENCE


def test_an_empty_answer_is_compared_as_it_is() -> None:
    assert compare_scored([], [], []).disagreement == 0.0
    assert compare_scored([], [], tokens(-1.0)).disagreement == 1.0
    with pytest.raises(NotComparable):
        compare_scored(tokens(-1.0), [], [])


SCORES = st.builds(TokenScore, st.floats(-30, 0), st.none() | st.floats(0, 9))
OWN = st.lists(st.builds(ScoredToken, st.sampled_from("abc"), st.floats(-20, 0)), max_size=8)


@given(st.lists(st.tuples(st.builds(ScoredToken, st.sampled_from("abc"), st.floats(-20, 0)), SCORES), max_size=8), OWN)
def test_pairs_are_bounded(answer: list[tuple[ScoredToken, TokenScore]], own: list[ScoredToken]) -> None:
    score = compare_scored([token for token, _ in answer], [one for _, one in answer], own)
    assert 0.0 <= score.disagreement <= 1.0
    assert 0.0 <= score.divergence <= MAX_DIVERGENCE
