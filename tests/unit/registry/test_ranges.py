from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.errors import RangeNotSatisfiable
from quantry_registry.ranges import ByteRange, etag_of, matches, requested_range

ETAG = etag_of("a" * 64)


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-5", 2, 4),
        ("bytes=2-", 2, 8),
        ("bytes=-3", 7, 3),
        ("bytes=-100", 0, 10),
        ("bytes=9-", 9, 1),
        ("bytes=4-99999", 4, 6),
        ("bytes= 2-5 ", 2, 4),
        ("Bytes=2-5", 2, 4),
        ("bytes=0-9", 0, 10),
    ],
)
def test_one_range(header: str, start: int, length: int) -> None:
    assert requested_range(header, None, ETAG, 10) == ByteRange(start, length, 10)


@pytest.mark.parametrize(
    "header", [None, "bytes=-", "bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes", "bytes=a-b", "bytes=1-2-3", "bytes=²-3"]
)
def test_what_is_no_single_range_gets_the_whole_file(header: str | None) -> None:
    assert requested_range(header, None, ETAG, 10) is None


def test_thousands_of_digits_get_the_whole_file() -> None:
    assert requested_range(f"bytes={'9' * 5000}-", None, ETAG, 10) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=0-0", 0)])
def test_a_range_past_the_end(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable):
        requested_range(header, None, ETAG, size)


def test_the_last_bytes_of_an_empty_file_are_the_whole_file() -> None:
    assert requested_range("bytes=-5", None, ETAG, 0) is None


def test_if_range_guards_against_other_bytes() -> None:
    assert requested_range("bytes=0-1", ETAG, ETAG, 10) == ByteRange(0, 2, 10)
    assert requested_range("bytes=0-1", '"other"', ETAG, 10) is None
    assert requested_range("bytes=0-1", f"W/{ETAG}", ETAG, 10) is None
    assert requested_range("bytes=0-1", "Wed, 21 Oct 2015 07:28:00 GMT", ETAG, 10) is None


def test_content_range() -> None:
    assert ByteRange(2, 4, 10).content_range == "bytes 2-5/10"


@pytest.mark.parametrize(
    ("header", "is_match"),
    [(None, False), ("*", True), (ETAG, True), (f"W/{ETAG}", True), (f'"x", {ETAG}', True), ('"x"', False), ("a" * 64, False), ("", False)],
)
def test_if_none_match(header: str | None, is_match: bool) -> None:
    assert matches(header, ETAG) is is_match


@given(data=st.binary(max_size=50), first=st.integers(0, 60), last=st.integers(0, 60))
def test_a_range_is_what_a_slice_is(data: bytes, first: int, last: int) -> None:
    try:
        found = requested_range(f"bytes={first}-{last}", None, ETAG, len(data))
    except RangeNotSatisfiable:
        assert data[first:] == b""
        return
    if found is None:
        assert last < first
    else:
        assert data[found.start : found.start + found.length] == data[first : last + 1]
