"""What is new at the end of a log."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_dashboard.log_tail import MAX_FOUND, Found, appended, searched


@pytest.mark.parametrize(
    ("shown", "latest", "fresh"),
    [
        ([], [], []),
        ([], ["a"], ["a"]),
        (["a"], ["a"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b", "c"], ["b", "c", "d"], ["d"]),
        (["a", "b"], ["x", "y"], None),
        (["a", "b"], [], None),
        (["a", "a"], ["a", "a", "a"], ["a"]),
    ],
)
def test_known_windows(shown: Sequence[str], latest: Sequence[str], fresh: Sequence[str] | None) -> None:
    assert appended(shown, latest) == fresh


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(0, 40), st.integers(1, 10))
def test_the_end_of_the_page_is_always_the_end_of_the_log(log: list[str], first_length: int, window: int) -> None:
    shown = log[:first_length][-window:]
    latest = log[-window:]
    fresh = appended(shown, latest)
    page = latest if fresh is None else [*shown, *fresh]
    assert page[len(page) - len(latest) :] == latest


def test_a_search_finds_lines_by_their_numbers() -> None:
    assert searched("One\ntwo\nONE more\n", "one") == Found(["1: One", "3: ONE more"], "2 lines have it")
    assert searched("one", "one").said == "1 line has it"
    assert searched("one", "three") == Found([], "no line has it")


def test_a_search_that_finds_too_much_shows_the_last() -> None:
    found = searched("same\n" * (MAX_FOUND + 5), "same")
    assert (len(found.lines), found.lines[-1]) == (MAX_FOUND, f"{MAX_FOUND + 5}: same")
    assert found.said == f"{MAX_FOUND + 5} lines have it; the last {MAX_FOUND}"
