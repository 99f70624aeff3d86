"""Corpora cut into windows, and how two models score them. Both see a batch before the next one is taken, so no logits are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quantry_core.errors import InvalidInput
from quantry_worker.child.evaluation.figures import ReferenceScores, TokenScores
from quantry_worker.child.numerics.divergence import kl_nats, same_top1
from quantry_worker.child.numerics.model import vocabulary_size
from quantry_worker.child.numerics.perplexity import batch_windows, next_token_log_probs, token_nll
from quantry_worker.child.numerics.text import SamplingReport, TokenStream, scoring_report
from quantry_worker.child.numerics.tokenizer import tokenize
from quantry_worker.child.numerics.windows import Window, batches, cut_windows
from quantry_worker.protocol import ChildInput

OnWindows = Callable[[int], None]
"""Told how many windows are scored."""


@dataclass(frozen=True)
class Corpus:
    """A text and the windows of it that are scored."""

    stream: TokenStream
    windows: list[Window]

    @property
    def ref(self) -> str:
        return self.stream.ref

    @property
    def window_tokens(self) -> int:
        return self.windows[0].end - self.windows[0].begin


def read_corpora(
    tokenizers: list[Path], datasets: list[ChildInput], *, window_tokens: int, stride_tokens: int | None, max_windows: int | None
) -> list[Corpus]:
    """Returns every dataset in windows of the first checkpoint's tokens.

    Raises InvalidInput where a text is too short, or where another of the checkpoints cuts it into other tokens.
    """
    streams = tokenize(tokenizers[0], datasets)
    for other in tokenizers[1:]:
        check_same_tokens(streams, tokenize(other, datasets))
    return [
        Corpus(stream, cut_windows(stream, window_tokens=window_tokens, stride_tokens=stride_tokens, max_windows=max_windows))
        for stream in streams
    ]


def scored(corpora: list[Corpus]) -> SamplingReport:
    """Returns what is scored of which texts; raises IndexError without any."""
    streams, num_windows = [corpus.stream for corpus in corpora], [len(corpus.windows) for corpus in corpora]
    return scoring_report(streams, window_tokens=corpora[0].window_tokens, num_windows=num_windows)


def check_same_tokens(ours: list[TokenStream], theirs: list[TokenStream]) -> None:
    """Raises InvalidInput if two tokenizers cut a text differently."""
    for mine, other in zip(ours, theirs, strict=True):
        if not np.array_equal(mine.tokens, other.tokens):
            raise InvalidInput(
                f"the version and its reference cut {mine.ref} into different tokens: "
                "their perplexities cannot be compared, and no KL can be taken"
            )


def score(model: Any, reference_model: Any | None, corpus: Corpus, on_windows: OnWindows) -> TokenScores:
    """Returns the scores of every token of a corpus that is scored, in float64."""
    nll, reference_nll, kl, same, num_scored = [], [], [], [], []
    num_done = 0
    with torch.inference_mode():
        for batch in batches(corpus.stream, corpus.windows, batch_windows(corpus.window_tokens, vocabulary_size(model))):
            ids = torch.from_numpy(batch.ids)
            log_q = next_token_log_probs(model, ids, batch.num_scored)
            nll.append(token_nll(log_q, ids).ravel())
            if reference_model is not None:
                log_p = next_token_log_probs(reference_model, ids, batch.num_scored)
                reference_nll.append(token_nll(log_p, ids).ravel())
                kl.append(kl_nats(log_p, log_q).ravel())
                same.append(same_top1(log_p, log_q).ravel())
            num_scored += [batch.num_scored] * len(ids)
            num_done += len(ids)
            on_windows(num_done)
    window = np.repeat(np.arange(len(num_scored), dtype=np.int64), num_scored)
    if reference_model is None:
        return TokenScores(np.concatenate(nll), window)
    reference = ReferenceScores(np.concatenate(reference_nll), np.concatenate(kl), np.concatenate(same))
    return TokenScores(np.concatenate(nll), window, reference)
