"""Event streams, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_gateway.events import EventBoundary

STREAM = b'data: {"a":1}\n\n: comment\n\ndata: two\ndata: lines\n\ndata: [DONE]\n\n'


def feed_all(data: bytes, cuts: list[int]) -> tuple[list[bytes], EventBoundary]:
    events = EventBoundary()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [events.feed(data[start:end]) for start, end in pairwise(places)], events


@given(st.lists(st.integers(min_value=0, max_value=10_000), max_size=12))
def test_however_it_is_cut_all_of_it_passes_and_only_in_whole_events(cuts: list[int]) -> None:
    for stream in (STREAM, STREAM.replace(b"\n", b"\r\n")):
        passed, events = feed_all(stream, cuts)
        assert b"".join(passed) == stream
        assert all(piece.endswith((b"\n\n", b"\r\n\r\n")) for piece in passed if piece)
        assert events.saw_done


@given(st.integers(min_value=0, max_value=len(STREAM) - 1))
def test_a_stream_cut_short_is_not_done(end: int) -> None:
    events = EventBoundary()
    events.feed(STREAM[:end])
    assert not events.saw_done


def test_a_whole_event_is_not_held_back() -> None:
    assert EventBoundary().feed(b"data: 1\n\n") == b"data: 1\n\n"
    assert EventBoundary().feed(b"data: 1\n\ndata: 2") == b"data: 1\n\n"


@pytest.mark.parametrize("last", [b'data: {"text":"[DONE]"}\n\n', b"data: [DONE] not\n\n", b": [DONE]\n\n"])
def test_the_end_mark_inside_a_text_is_no_end(last: bytes) -> None:
    events = EventBoundary()
    events.feed(last)
    assert not events.saw_done
