"""Expressions mean what they mean in ``re``, and cost what a name is long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.expressions import MAX_MOVES, Expression, ExpressionError, expression

NAMES = (
    "",
    "lm_head",
    "model.layers.0.self_attn.q_proj",
    "model.layers.10.mlp.down_proj",
    "model.layers.3.mlp.experts.17.up_proj",
    "transformer.h.11.attn.c_attn",
    "Modül.٣ x",
)
EXPRESSIONS = (
    "",
    ".*",
    r".*\.up_proj$",
    "up_proj",
    r"model\.layers\.[0-3]\..*",
    r".*layers\.(0|1|10)\.(mlp|self_attn)\.[a-z]+_proj$",
    r"^model\.layers\.\d{1,2}\.\w+\.(?:q|k|v)_proj\Z",
    r".*\bmlp\b",
    r".*\Bayers",
    r"[^.]+$",
    r"(?:[a-z_]+\.?)+\d?$",
    r"(a*)*model",
    r"(?P<name>m)odel(?:\.(?P<part>\w+?)){2,}?\.0",
    r"\D+\d\s*",
    r"\S+\s\S",
    r"[\W\d]|[\w.]{6,}x",
    r"(?:){70}lm",
    r"(?:l|lm|lm_)*head",
    r"$",
    r".+?[^a-z]attn(?#a comment)",
)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_it_says_what_re_says(text: str) -> None:
    assert {name for name in NAMES if expression(text).matches(name)} == {name for name in NAMES if re.match(text, name)}


ATOMS = st.sampled_from(["a", "b", ".", r"\w", "[ab]", "[^a]", r"\b", r"\B", "^", "$", r"\."])
TEXTS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,3}", "{2,}"])).map(lambda two: f"(?:{two[0]}){two[1]}"),
    ),
    max_leaves=6,
)


@given(text=TEXTS, name=st.text("ab._", min_size=1, max_size=8))
def test_any_expression_says_what_re_says(text: str, name: str) -> None:
    assert Expression(text).matches(name) is (re.match(text, name) is not None)


@pytest.mark.parametrize("text", [r"(?:[a-z0-9_.]+)+!", r"(.*)*!", r"(a|a|[a-z.0-9_]+)*!", ".*.*.*.*.*.*.*.*.*.*.*.*!", "(x?){60}.*.*.*!"])
def test_no_expression_takes_long(text: str) -> None:
    started = time.process_time()
    for layer in range(50):
        assert not expression(text).matches(f"model.layers.{layer}.self_attn.q_proj" + ".and_a_longer_name" * 5)
    assert time.process_time() - started < 5


def test_what_is_remembered_is_bounded_and_changes_nothing() -> None:
    text = "(?:a|b)*a(?:a|b){12}$"
    made = Expression(text)
    for number in range(2000):
        name = f"{number:014b}".replace("0", "a").replace("1", "b")
        assert made.matches(name) is (re.match(text, name) is not None)
    assert made._num_moves <= MAX_MOVES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(", "is not a regular expression"),
        ("[z-a]", "is not a regular expression"),
        (r"(a)\1", "a reference to a group"),
        (r"(a)?(?(1)b|c)", "a condition on a group"),
        ("(?=a)", "a look ahead or behind"),
        ("(?<!a)b", "a look ahead or behind"),
        ("(?>a)", "an atomic group"),
        ("a*+", "a possessive repeat"),
        ("(?i)a", "has flags"),
        ("(?i:a)", "has flags"),
        ("(?:a{100}){100}", "more than 500 parts"),
        ("(?:(?:){9999}){9999}", "more than 500 parts"),
    ],
)
def test_what_cannot_be_followed_is_refused(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=words):
        Expression(text)
