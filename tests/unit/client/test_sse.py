"""Server-sent events, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quantry.sse import EventReader, ServerEvent

STREAM = ': keep-alive\n\nid: 7\nevent: log\ndata: {"text": "a\u2028b\x0bc"}\n\ndata:one\ndata: two\n\nretry: 10\n\n'.encode()
EVENTS = [ServerEvent('{"text": "a\u2028b\x0bc"}', id="7", kind="log"), ServerEvent("one\ntwo", id="7")]


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM) + 10), max_size=10), st.sampled_from(["\n", "\r\n", "\r"]))
def test_however_it_is_cut_the_events_are_the_same(cuts: list[int], end: str) -> None:
    # A lone CR at the very end may be half a CRLF, so the stream goes on a little.
    data = STREAM.replace(b"\n", end.encode()) + b": more"
    reader = EventReader()
    seen: list[ServerEvent] = []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in pairwise(places):
        seen += reader.feed(data[start:stop])
    assert seen == EVENTS


def test_an_unfinished_event_is_none() -> None:
    reader = EventReader()
    assert reader.feed(b"data: half\n") == []
    assert reader.feed(b"\n") == [ServerEvent("half")]
