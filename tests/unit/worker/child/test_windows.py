"""Windows for scoring: what is seen, what is scored."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.errors import InvalidInput
from quantry_worker.child.numerics.text import TokenStream
from quantry_worker.child.numerics.windows import Window, batches, cut_windows, num_windows_within


def stream(num_tokens: int) -> TokenStream:
    return TokenStream("a@1", np.arange(num_tokens, dtype=np.int64))


def test_windows_are_counted_that_stay_within_so_many_tokens() -> None:
    windows = [Window(0, 1, 10), Window(10, 12, 20), Window(20, 21, 30)]
    assert [num_windows_within(windows, tokens) for tokens in (0, 8, 9, 16, 17, 25, 26, 1000)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_without_a_stride_windows_stand_alone_and_a_shorter_tail_is_left_out() -> None:
    windows = cut_windows(stream(35), window_tokens=10, stride_tokens=None, max_windows=None)
    assert windows == [Window(0, 1, 10), Window(10, 11, 20), Window(20, 21, 30)]
    assert cut_windows(stream(35), window_tokens=10, stride_tokens=10, max_windows=2) == windows[:2]


def test_with_a_stride_only_what_the_last_window_did_not_see_is_scored() -> None:
    windows = cut_windows(stream(17), window_tokens=10, stride_tokens=4, max_windows=None)
    assert windows == [Window(0, 1, 10), Window(4, 10, 14), Window(8, 14, 17)]
    assert cut_windows(stream(17), window_tokens=10, stride_tokens=4, max_windows=1) == windows[:1]


def test_windows_past_the_limit_are_never_made() -> None:
    text = stream(10_000_000)
    tracemalloc.start()
    try:
        windows = cut_windows(text, window_tokens=256, stride_tokens=1, max_windows=10)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [one.begin for one in windows] == list(range(10))
    assert peak_bytes < 1_000_000, "ten windows are a few kilobytes, ten million a gigabyte"


@given(num_tokens=st.integers(16, 400), window=st.integers(16, 64), data=st.data())
def test_every_token_after_the_first_is_scored_once_with_context_before_it(num_tokens: int, window: int, data: st.DataObject) -> None:
    window = min(window, num_tokens)
    stride = data.draw(st.integers(1, window - 1))
    windows = cut_windows(stream(num_tokens), window_tokens=window, stride_tokens=stride, max_windows=None)
    scored = [token for one in windows for token in range(one.scored_from, one.end)]
    assert scored == list(range(1, num_tokens))
    assert all(one.end - one.begin <= window for one in windows)
    # What lies before a scored token: the overlap, once the text is longer than that.
    assert all(one.scored_from - one.begin >= window - stride for one in windows[1:])


@given(num_tokens=st.integers(16, 200), stride=st.none() | st.integers(1, 16), max_windows=st.integers(1, 5))
def test_batches_hold_the_windows_in_order_and_are_of_one_form(num_tokens: int, stride: int | None, max_windows: int) -> None:
    text = stream(num_tokens)
    windows = cut_windows(text, window_tokens=16, stride_tokens=stride, max_windows=None)
    found = list(batches(text, windows, max_windows))
    assert all(1 <= len(batch.ids) <= max_windows and batch.num_scored < batch.ids.shape[1] for batch in found)
    rows = [(row.tolist(), batch.num_scored) for batch in found for row in batch.ids]
    assert rows == [(list(range(one.begin, one.end)), one.num_scored) for one in windows]


def test_a_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a@1 is too short: it has 9 tokens, one window needs 10"):
        cut_windows(stream(9), window_tokens=10, stride_tokens=5, max_windows=None)
