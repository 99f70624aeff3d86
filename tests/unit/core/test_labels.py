"""Labels, metadata and the selectors that find things by them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.errors import InvalidInput
from quantry_core.jobs import MAX_LABELS, MAX_METADATA_BYTES, Operator, Requirement, check_labels, check_metadata, parse_selector
from quantry_core.jobs.labels import MAX_METADATA_DEPTH


@pytest.mark.parametrize("labels", [{}, {"a": ""}, {"team": "search"}, {"quantry.dev/team": "a.b_c-d"}, {"x" * 63: "y" * 63}])
def test_good_labels(labels: dict[str, str]) -> None:
    assert check_labels(labels) == labels


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"": "x"}, "''"),
        ({"te am": "x"}, "'te am'"),
        ({"-a": "x"}, "'-a'"),
        ({"x" * 64: "y"}, "x" * 64),
        ({"a\n": "y"}, "key"),
        ({"team": "a/b"}, "'a/b'"),
        ({"team": "y" * 64}, "'team'"),
        ({"team": "é"}, "'é'"),
        ({f"k{number}": "" for number in range(MAX_LABELS + 1)}, str(MAX_LABELS)),
    ],
)
def test_bad_labels_are_named(labels: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match="label") as caught:
        check_labels(labels)
    assert named in str(caught.value)


def test_metadata_has_a_size() -> None:
    fits = {"a": "x" * (MAX_METADATA_BYTES - len('{"a": ""}'))}
    assert check_metadata(fits) == fits
    with pytest.raises(ValueError, match=f"at most {MAX_METADATA_BYTES}"):
        check_metadata({"a": fits["a"] + "x"})


def test_a_selector_is_conditions_that_must_all_hold() -> None:
    assert parse_selector("team=search, stage!=test,nightly,!draft,other==x,empty=") == [
        Requirement("team", Operator.EQUAL, "search"),
        Requirement("stage", Operator.NOT_EQUAL, "test"),
        Requirement("nightly", Operator.PRESENT),
        Requirement("draft", Operator.ABSENT),
        Requirement("other", Operator.EQUAL, "x"),
        Requirement("empty", Operator.EQUAL, ""),
    ]


@pytest.mark.parametrize("text", ["", ",", "a,", "=x", "!", "a=b=c", "a b", "a!=b!", "a in (b)", "!a=b", ",".join("a" * 17)])
def test_bad_selectors_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_selector(text)


@given(st.text(max_size=40))
def test_a_selector_is_read_or_refused(text: str) -> None:
    try:
        requirements = parse_selector(text)
    except InvalidInput:
        return
    assert all(check_labels({requirement.key: requirement.value}) for requirement in requirements)


def test_metadata_holds_no_nul() -> None:
    spelled = {"a": ["\\u0000", "\\\\u0000"]}
    assert check_metadata(spelled) == spelled
    for metadata in ({"a": ["b\0"]}, {"a": {"\0": 1}}, {"a": "\\\0"}):
        with pytest.raises(ValueError, match="NUL"):
            check_metadata(metadata)


def test_metadata_may_not_be_nested_without_end() -> None:
    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for level in range(depth - 1):
            value = [value] if level % 2 else {"a": value}
        return {"a": value}

    assert check_metadata(nested(MAX_METADATA_DEPTH)) == nested(MAX_METADATA_DEPTH)
    with pytest.raises(ValueError, match="deep inside each other"):
        check_metadata(nested(MAX_METADATA_DEPTH + 1))
