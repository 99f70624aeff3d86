"""Windows for calibration and for scoring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.errors import InvalidInput
from quantry_worker.child.numerics.text import TokenStream, check_length, sample_windows, scoring_windows


def stream(ref: str, num_tokens: int, first: int = 0) -> TokenStream:
    return TokenStream(ref, np.arange(first, first + num_tokens, dtype=np.int64))


def test_the_same_seed_gives_the_same_samples_and_another_seed_others() -> None:
    streams = [stream("a@1", 4000), stream("b@1", 4000, first=10_000)]
    first, again, other = (sample_windows(streams, num_samples=20, length_tokens=16, seed=seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


@given(sizes=st.lists(st.integers(10, 500), min_size=1, max_size=5), seed=st.integers(0, 1000), data=st.data())
def test_samples_are_distinct_windows_in_proportion_to_length(sizes: list[int], seed: int, data: st.DataObject) -> None:
    length = 10
    streams = [stream(f"s{index}", size, first=index * 1000) for index, size in enumerate(sizes)]
    num_windows = [size // length for size in sizes]
    num_samples = data.draw(st.integers(1, sum(num_windows)))
    samples = sample_windows(streams, num_samples=num_samples, length_tokens=length, seed=seed)

    assert samples.shape == (num_samples, length)
    starts = samples[:, 0]
    assert len(set(starts.tolist())) == num_samples
    assert (starts % 1000 % length == 0).all()
    assert (np.diff(samples, axis=1) == 1).all()
    for index, count in enumerate(num_windows):
        share = num_samples * count / sum(num_windows)
        assert abs(int((starts // 1000 == index).sum()) - share) < 1


def test_too_little_text_says_how_much_there_is() -> None:
    with pytest.raises(InvalidInput, match=r"64 samples of 256 tokens are asked for, a@1, b@1 hold 5"):
        sample_windows([stream("a@1", 600), stream("b@1", 800)], num_samples=64, length_tokens=256, seed=0)
    with pytest.raises(InvalidInput, match=r"dataset b@1 is too short: it has 9 tokens, one window needs 16"):
        sample_windows([stream("a@1", 600), stream("b@1", 9)], num_samples=1, length_tokens=16, seed=0)


def test_scoring_windows_do_not_overlap_and_leave_out_a_shorter_tail() -> None:
    windows = scoring_windows(stream("a@1", 35), window_tokens=10, max_windows=None)
    assert windows.tolist() == [list(range(0, 10)), list(range(10, 20)), list(range(20, 30))]
    assert scoring_windows(stream("a@1", 35), window_tokens=10, max_windows=2).shape == (2, 10)
    with pytest.raises(InvalidInput, match="too short"):
        scoring_windows(stream("a@1", 9), window_tokens=10, max_windows=None)


def test_a_window_longer_than_the_context_is_refused() -> None:
    check_length(128, {"max_position_embeddings": 128}, field="window_tokens")
    check_length(10**6, {}, field="window_tokens")
    with pytest.raises(InvalidInput, match=r"window_tokens is 129, but the model's context is 128 tokens"):
        check_length(129, {"max_position_embeddings": 128}, field="window_tokens")
