"""Tries the ways in a scratch folder and scores each on the same rows and texts, one model in memory at a time.

Two references are looked at first and what they make of the texts is kept on disk: the function that was trained, which is the
adapter on its base, and the untouched 16-bit version. KL is taken from each. What is kept is bounded: of more text it is done in
rounds, and each model is loaded once in each.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from quantry_core.training import MergeTarget
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.evaluation.corpora import Corpus, corpus_batches, log_probs
from quantry_worker.child.failures import Diverged
from quantry_worker.child.gate.kept import keep
from quantry_worker.child.merging.choice import way_evidence
from quantry_worker.child.merging.held_out import HeldOut, score_held_out
from quantry_worker.child.merging.losses import Losses
from quantry_worker.child.numerics.divergence import kl_nats
from quantry_worker.child.numerics.model import vocabulary_size
from quantry_worker.child.numerics.perplexity import token_nll
from quantry_worker.child.numerics.release import release_memory
from quantry_worker.child.numerics.windows import num_windows_within
from quantry_worker.child.reporter import Reporter
from quantry_worker.disk import check_room

Load = Callable[[], Any]
"""Returns a causal language model in evaluation mode, float32."""

TRAINED, UNTOUCHED = "trained", "master"
"""The references: ``kl_from_trained_nats``, ``kl_from_master_nats``."""
KEPT_BYTES = 16 * 1024**3
"""What references make of the texts of one round, at most: for each 4 bytes times scored tokens times vocabulary."""
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Candidate:
    """A way that was tried."""

    way: MergeTarget
    load: Load
    weights_bytes: int
    """Of the files that an engine would load."""


@dataclass(frozen=True)
class Texts:
    """What every way is scored on."""

    held_out: HeldOut
    corpora: Sequence[Corpus]


@dataclass(frozen=True)
class Measured:
    """What was found of every way."""

    losses: Mapping[MergeTarget, Losses]
    evidence: list[EvidenceDraft]


class _Part(NamedTuple):
    """Scores of some windows of a text, float64 [tokens] each."""

    nll: NDArray[np.float64]
    kl: Mapping[str, NDArray[np.float64]]
    """From each reference."""


class _Passes:
    """How far all is: each model goes once over each window and, if it is a way, over each held-out row."""

    def __init__(self, reporter: Reporter, num_passes: int) -> None:
        self._reporter = reporter
        self._num_passes = num_passes
        self._num_done = 0

    def begin(self, detail: str) -> None:
        self._reporter.progress("measuring", self._num_done / max(1, self._num_passes), detail)

    def end(self, num_passes: int) -> None:
        self._num_done += num_passes


def measure(
    candidates: Sequence[Candidate],
    references: Mapping[str, Load],
    texts: Texts,
    folder: Path,
    reporter: Reporter,
    *,
    kept_bytes: int = KEPT_BYTES,
) -> Measured:
    """Returns the losses and one evidence of each candidate; raises Diverged where one is not finite, DiskFull without room.

    What references make of the texts is kept in ``folder``, ``kept_bytes`` of it at a time.
    """
    losses: dict[MergeTarget, Losses] = {}
    parts: dict[MergeTarget, dict[str, list[_Part]]] = {one.way: {corpus.ref: [] for corpus in texts.corpora} for one in candidates}
    num_rows = len(texts.held_out.samples)
    of_references, of_ways = (len(models) * _num_windows(texts.corpora) for models in (references, candidates))
    passes = _Passes(reporter, of_references + of_ways + len(candidates) * num_rows)
    later, is_first = list(texts.corpora), True
    while is_first or later:
        now, later = _keep_references(references, later, folder, kept_bytes, passes)
        for candidate in candidates:
            passes.begin(candidate.way)
            model = candidate.load()
            if is_first:
                losses[candidate.way] = score_held_out(model, texts.held_out)
                passes.end(num_rows)
            for place, corpus in enumerate(now):
                parts[candidate.way][corpus.ref].append(_score(model, corpus, _folders(folder, references, place)))
            passes.end(_num_windows(now))
            del model
            release_memory()
        is_first = False
        shutil.rmtree(folder, ignore_errors=True)
    evidence = [_evidence(one, losses[one.way], texts.held_out, _figures(parts[one.way])) for one in candidates]
    return Measured(losses, evidence)


def _num_windows(corpora: Sequence[Corpus]) -> int:
    return sum(len(corpus.windows) for corpus in corpora)


def _folders(folder: Path, references: Mapping[str, Load], place: int) -> dict[str, Path]:
    return {name: folder / name / str(place) for name in references}


def _keep_references(
    references: Mapping[str, Load], corpora: Sequence[Corpus], folder: Path, kept_bytes: int, passes: _Passes
) -> tuple[list[Corpus], list[Corpus]]:
    """Keeps what references make of as much text as may be kept at once; returns that, and what is left."""
    now: list[Corpus] = []
    later = list(corpora)
    if not corpora:
        return now, later
    folder.mkdir(parents=True, exist_ok=True)
    for name, load in references.items():
        passes.begin("the references")
        model = load()
        if not now:
            token_bytes = len(references) * FLOAT32_BYTES * vocabulary_size(model)
            now, later = _split(corpora, max(1, kept_bytes // token_bytes))
            check_room(folder, token_bytes * sum(window.num_scored for corpus in now for window in corpus.windows))
        for place, corpus in enumerate(now):
            for _ in keep(folder / name / str(place), ((one,) for one in log_probs(model, corpus))):
                pass
        passes.end(_num_windows(now))
        del model
        release_memory()
    return now, later


def _split(corpora: Sequence[Corpus], max_tokens: int) -> tuple[list[Corpus], list[Corpus]]:
    """Returns the first windows, so many tokens of them or one window, and all others; a text can be in both."""
    now: list[Corpus] = []
    later = list(corpora)
    while later:
        corpus = later[0]
        num = num_windows_within(corpus.windows, max_tokens)
        if num == 0 and now:
            break
        taken = corpus.windows[: max(1, num)]
        now.append(replace(corpus, windows=taken))
        max_tokens -= sum(window.num_scored for window in taken)
        rest = corpus.windows[len(taken) :]
        later[:1] = [replace(corpus, windows=rest)] if rest else []
        if rest:
            break
    return now, later


def _score(model: Any, corpus: Corpus, references: Mapping[str, Path]) -> _Part:
    """Returns the log-loss of each token of a corpus, and its KL of the model from each reference in nats."""
    nll: list[NDArray[np.float64]] = []
    kl: dict[str, list[NDArray[np.float64]]] = {name: [] for name in references}
    kept = {name: _kept(directory) for name, directory in references.items()}
    for batch, log_q in zip(corpus_batches(corpus, vocabulary_size(model)), log_probs(model, corpus), strict=True):
        nll.append(token_nll(log_q, torch.from_numpy(batch.ids)).ravel())
        for name, stored in kept.items():
            kl[name].append(kl_nats(next(stored), log_q).ravel())
    return _Part(np.concatenate(nll), {name: np.concatenate(values) for name, values in kl.items()})


def _figures(by_corpus: Mapping[str, Sequence[_Part]]) -> dict[str, dict[str, float]]:
    """Returns of each corpus mean log-loss and perplexity, and the mean KL from each reference in nats."""
    found: dict[str, dict[str, float]] = {}
    for ref, parts in by_corpus.items():
        losses = np.concatenate([part.nll for part in parts])
        found[ref] = {"nll_mean": float(losses.mean()), "perplexity": float(np.exp(losses.mean())), "num_tokens": float(losses.size)}
        for name in parts[0].kl:
            found[ref][f"kl_from_{name}_nats"] = float(np.concatenate([part.kl[name] for part in parts]).mean())
    return found


def _kept(directory: Path) -> Iterator[torch.Tensor]:
    """Yields what was kept of a reference, batch by batch; it is read once for every way, and goes with the folder."""
    for path in sorted(directory.iterdir()):
        (tensor,) = load_file(path).values()
        yield tensor


def _evidence(candidate: Candidate, losses: Losses, held_out: HeldOut, by_corpus: dict[str, dict[str, float]]) -> EvidenceDraft:
    metrics: dict[str, Any] = {
        "way": candidate.way.value,
        "validation_file": held_out.ref,
        "nll_mean": losses.mean_nats,
        "perplexity": float(np.exp(losses.mean_nats)),
        "num_rows": len(held_out.samples),
        "num_tokens": int(losses.counts.sum()),
        "weights_bytes": candidate.weights_bytes,
        "corpora": by_corpus,
    }
    infinite = [name for name, value in _numbers(metrics) if not math.isfinite(value)]
    if infinite:
        raise Diverged(f"of the way {candidate.way} these are infinite or not a number: {', '.join(infinite)}")
    # Nothing is asked of one way alone: the choice is between them.
    return EvidenceDraft(kind=EvidenceKind.EVALUATION, name=way_evidence(candidate.way), verdict=Verdict.INCONCLUSIVE, metrics=metrics)


def _numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", number) for inner, number in _numbers(value))
        elif isinstance(value, int | float):
            yield name, value
