"""Corpora cut into windows, and how a model scores them, alone or beside a reference.

The reference's log-probabilities come batch by batch: from a model in memory, or from disk, where they were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
from quantry_worker.child.numerics.windows import Batch, Window, batches, cut_windows
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


def log_probs(model: Any, corpus: Corpus) -> Iterator[torch.Tensor]:
    """Yields a model's log-probabilities of the scored tokens, float32 [B, S, V], batch by batch."""
    for batch in corpus_batches(corpus, vocabulary_size(model)):
        with torch.inference_mode():
            found = next_token_log_probs(model, torch.from_numpy(batch.ids), batch.num_scored)
        yield found


def score(model: Any, reference: Iterable[torch.Tensor] | None, corpus: Corpus, on_windows: OnWindows) -> TokenScores:
    """Returns the scores of every token of a corpus that is scored, in float64. ``reference`` is another model's ``log_probs``.

    Raises InvalidInput if the two have vocabularies of different sizes.
    """
    nll, reference_nll, kl, same, num_scored = [], [], [], [], []
    num_done = 0
    theirs = None if reference is None else iter(reference)
    for batch, log_q in zip(corpus_batches(corpus, vocabulary_size(model)), log_probs(model, corpus), strict=True):
        ids = torch.from_numpy(batch.ids)
        nll.append(token_nll(log_q, ids).ravel())
        if theirs is not None:
            log_p = next(theirs)
            if log_p.shape != log_q.shape:
                raise InvalidInput(f"logits of shape {list(log_q.shape)} cannot be compared with a reference's of {list(log_p.shape)}")
            reference_nll.append(token_nll(log_p, ids).ravel())
            kl.append(kl_nats(log_p, log_q).ravel())
            same.append(same_top1(log_p, log_q).ravel())
        num_scored += [batch.num_scored] * len(ids)
        num_done += len(ids)
        on_windows(num_done)
    window = np.repeat(np.arange(len(num_scored), dtype=np.int64), num_scored)
    if theirs is None:
        return TokenScores(np.concatenate(nll), window)
    return TokenScores(
        np.concatenate(nll), window, ReferenceScores(np.concatenate(reference_nll), np.concatenate(kl), np.concatenate(same))
    )


def corpus_batches(corpus: Corpus, vocabulary: int) -> Iterator[Batch]:
    """Yields the windows of a corpus, as many at a time as their logits allow: those of ``log_probs``."""
    return batches(corpus.stream, corpus.windows, batch_windows(corpus.window_tokens, vocabulary))
