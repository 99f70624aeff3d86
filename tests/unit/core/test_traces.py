"""The line of W3C's trace context, and how it is carried."""

from __future__ import annotations

import threading

import pytest

from quantry_core.traces import TRACEPARENT_CHARS, TraceContext, carried_traceparent, carrying, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_line_is_read_and_written() -> None:
    context = parse_traceparent(GOOD)
    assert context == TraceContext(TRACE, SPAN, is_sampled=True)
    assert context.traceparent == GOOD
    assert len(GOOD) == TRACEPARENT_CHARS
    assert parse_traceparent(GOOD[:-2] + "00") == TraceContext(TRACE, SPAN, is_sampled=False)


def test_a_later_version_may_say_more() -> None:
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01-what-comes-then") == TraceContext(TRACE, SPAN, is_sampled=True)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00",
        GOOD.upper(),
        GOOD + "-more",
        GOOD + "\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"0x-{TRACE}-{SPAN}-01",
        " " + GOOD,
        "x" * 10_000,
    ],
)
def test_what_is_no_such_line_says_nothing(text: str | None) -> None:
    assert parse_traceparent(text) is None


def test_it_is_carried_within_a_block_and_not_into_threads() -> None:
    seen: list[str | None] = []
    assert carried_traceparent() is None
    with carrying(GOOD):
        assert carried_traceparent() == GOOD
        thread = threading.Thread(target=lambda: seen.append(carried_traceparent()))
        thread.start()
        thread.join()
        with carrying(None):
            assert carried_traceparent() is None
        assert carried_traceparent() == GOOD
    assert carried_traceparent() is None
    assert seen == [None]
