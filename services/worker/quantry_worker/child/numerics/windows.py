"""Which tokens of a text are scored, and what the model sees before each: windows with or without overlap. Pure numpy.

Without a stride windows lie side by side and stand alone: the first token of each is not predicted. With a stride shorter
than a window, the next window begins that many tokens later and only what the last one did not see is scored, so every token
of the text but the first is scored once, with at least ``window - stride`` tokens before it where the text has them
(https://huggingface.co/docs/transformers/perplexity).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, takewhile

import numpy as np

from quantry_core.errors import InvalidInput
from quantry_worker.child.numerics.text import Tokens, TokenStream


@dataclass(frozen=True)
class Window:
    """A run of a text's tokens, by position: the model sees ``begin`` to ``end``, and is scored on ``scored_from`` to ``end``."""

    begin: int
    scored_from: int
    end: int

    @property
    def num_scored(self) -> int:
        return self.end - self.scored_from


@dataclass(frozen=True)
class Batch:
    """Windows of one length that are scored on equally many of their last tokens."""

    ids: Tokens
    """Token ids, shape [B, T]."""
    num_scored: int
    """The last tokens of each window, at most T - 1."""


def cut_windows(stream: TokenStream, *, window_tokens: int, stride_tokens: int | None, max_windows: int | None) -> list[Window]:
    """Returns the first windows of a text; without a stride a tail that is shorter than a window is left out.

    Raises InvalidInput if the text is shorter than one window.
    """
    num_tokens = len(stream.tokens)
    if num_tokens < window_tokens:
        raise InvalidInput(f"dataset {stream.ref} is too short: it has {num_tokens} tokens, one window needs {window_tokens}")
    if stride_tokens is None or stride_tokens == window_tokens:
        begins = range(0, num_tokens - window_tokens + 1, window_tokens)[:max_windows]
        return [Window(begin, begin + 1, begin + window_tokens) for begin in begins]
    return list(islice(_overlapping(num_tokens, window_tokens, stride_tokens), max_windows))


def num_windows_within(windows: Sequence[Window], max_tokens: int) -> int:
    """Returns how many of the first windows are scored on at most so many tokens together."""
    totals = accumulate(window.num_scored for window in windows)
    return sum(1 for _ in takewhile(lambda total: total <= max_tokens, totals))


def batches(stream: TokenStream, windows: list[Window], max_windows: int) -> Iterator[Batch]:
    """Yields the windows in their order, at most ``max_windows`` at a time."""
    for (length, num_scored), alike in groupby(windows, key=lambda one: (one.end - one.begin, one.num_scored)):
        members = list(alike)
        for start in range(0, len(members), max_windows):
            chosen = members[start : start + max_windows]
            ids = np.stack([stream.tokens[one.begin : one.begin + length] for one in chosen])
            yield Batch(ids, num_scored)


def _overlapping(num_tokens: int, window_tokens: int, stride_tokens: int) -> Iterator[Window]:
    """Yields windows as they are wanted: with a short stride there are nearly as many as tokens."""
    last = Window(0, 1, window_tokens)
    yield last
    while last.end < num_tokens:
        begin = last.begin + stride_tokens
        last = Window(begin, last.end, min(begin + window_tokens, num_tokens))
        yield last
