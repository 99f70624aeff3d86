"""Windows for calibration."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput
from quantry_worker.child.numerics.text import (
    TokenStream,
    calibration_report,
    check_length,
    sample_windows,
    scoring_report,
)


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


def test_the_report_says_what_was_drawn_from_each_dataset() -> None:
    rows = TokenStream("rows@2", np.arange(10_000, 10_100, dtype=np.int64), DatasetKind.CHAT, np.asarray([30, 20, 48]), "0" * 64)
    streams = [stream("text@1", 300), rows]
    samples = sample_windows(streams, num_samples=6, length_tokens=16, seed=5)
    report = calibration_report(streams, num_samples=6, length_tokens=16, seed=5)
    assert [one.num_samples for one in report.datasets] == [(samples[:, 0] < 10_000).sum(), (samples[:, 0] >= 10_000).sum()]
    assert (report.num_samples, report.length_tokens, report.seed) == (6, 16, 5)
    assert json.loads(json.dumps(report.as_json()))["datasets"][1] == {
        "dataset": "rows@2",
        "kind": "chat",
        "num_tokens": 100,
        "num_windows": 6,
        "num_samples": report.datasets[1].num_samples,
        "num_rows": 3,
        "row_tokens_min": 20,
        "row_tokens_mean": 32.67,
        "row_tokens_max": 48,
        "chat_template_sha256": "0" * 64,
    }
    scored = scoring_report(streams, window_tokens=16, num_windows=[4, 6])
    assert (scored.num_samples, scored.seed, [one.num_samples for one in scored.datasets]) == (10, None, [4, 6])
    assert scored.datasets[0].num_rows is None


def test_a_window_longer_than_the_context_is_refused() -> None:
    check_length(128, {"max_position_embeddings": 128}, field="window_tokens")
    check_length(10**6, {}, field="window_tokens")
    with pytest.raises(InvalidInput, match=r"window_tokens is 129, but the model's context is 128 tokens"):
        check_length(129, {"max_position_embeddings": 128}, field="window_tokens")
