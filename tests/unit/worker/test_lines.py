from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_worker.lines import MAX_LINE_CHARS, LineBuffer, clean_text, log_text


@given(st.binary(max_size=400), st.lists(st.integers(min_value=0, max_value=400), max_size=8))
def test_how_the_stream_is_chopped_does_not_matter(stream: bytes, cuts: list[int]) -> None:
    whole = LineBuffer(1000)
    expected = whole.feed(stream) + whole.close()
    chopped = LineBuffer(1000)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    lines = [line for start, end in itertools.pairwise(bounds) for line in chopped.feed(stream[start:end])]
    assert lines + chopped.close() == expected
    assert b"\n".join(expected).rstrip(b"\n") == stream.rstrip(b"\n")


def test_a_long_line_is_cut_and_the_next_one_is_whole() -> None:
    lines = LineBuffer(5)
    assert lines.feed(b"0123456789") == []
    assert lines.feed(b"abc\nnext\n") == [b"01234", b"next"]


def test_memory_stays_small_without_a_newline() -> None:
    lines = LineBuffer(10)
    for _ in range(1000):
        assert lines.feed(b"x" * 1000) == []
    assert lines.close() == [b"x" * 10]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain", "plain"),
        (b"\r 10%\r 50%\r100%", "100%"),
        (b"\r 10%\r 50%\r", " 50%"),
        (b"bad \xff utf-8", "bad \N{REPLACEMENT CHARACTER} utf-8"),
        (b"\x1b[31mred\x1b[0m \x1b]0;title\x07text", "red text"),
        (b"nul \x00 bell \x07", "nul \N{REPLACEMENT CHARACTER} bell \N{REPLACEMENT CHARACTER}"),
        (b"tab\tstays", "tab\tstays"),
        (b"  \r ", ""),
    ],
)
def test_log_text(line: bytes, text: str) -> None:
    assert log_text(line) == text


def test_a_line_has_at_most_two_thousand_characters() -> None:
    text = log_text(("ä" * 3000).encode())
    assert len(text) == MAX_LINE_CHARS
    assert text.endswith("…")
    assert clean_text("short", 10) == "short"
