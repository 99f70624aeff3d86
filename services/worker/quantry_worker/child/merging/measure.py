"""Tries the ways in a scratch folder and scores each on the same rows and texts, one model in memory at a time.

Two references are looked at first and what they make of the texts is kept on disk: the function that was trained, which is the
adapter on its base, and the untouched 16-bit version. KL is taken from each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from quantry_worker.child.reporter import Reporter

Load = Callable[[], Any]
"""Returns a causal language model in evaluation mode, float32."""

TRAINED, UNTOUCHED = "trained", "master"
"""The references: ``kl_from_trained_nats``, ``kl_from_master_nats``."""


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


def measure(candidates: Sequence[Candidate], references: Mapping[str, Load], texts: Texts, folder: Path, reporter: Reporter) -> Measured:
    """Returns the losses and one evidence of each candidate; raises Diverged where one is not finite.

    What references make of the texts is kept in ``folder``: for each 4 bytes times scored tokens times vocabulary.
    """
    num_models = len(references) + len(candidates)
    for index, (name, load) in enumerate(references.items()):
        reporter.progress("measuring", index / num_models, f"the {name} model")
        _keep_reference(load, texts.corpora, folder / name)
    losses: dict[MergeTarget, Losses] = {}
    evidence: list[EvidenceDraft] = []
    for index, candidate in enumerate(candidates):
        reporter.progress("measuring", (len(references) + index) / num_models, candidate.way)
        model = candidate.load()
        losses[candidate.way] = score_held_out(model, texts.held_out)
        by_corpus = {corpus.ref: _score(model, corpus, _folders(folder, references, place)) for place, corpus in enumerate(texts.corpora)}
        del model
        release_memory()
        evidence.append(_evidence(candidate, losses[candidate.way], texts.held_out, by_corpus))
    return Measured(losses, evidence)


def _folders(folder: Path, references: Mapping[str, Load], place: int) -> dict[str, Path]:
    return {name: folder / name / str(place) for name in references}


def _keep_reference(load: Load, corpora: Sequence[Corpus], directory: Path) -> None:
    if not corpora:
        return
    model = load()
    for place, corpus in enumerate(corpora):
        for _ in keep(directory / str(place), ((one,) for one in log_probs(model, corpus))):
            pass
    del model
    release_memory()


def _score(model: Any, corpus: Corpus, references: Mapping[str, Path]) -> dict[str, float]:
    """Returns mean log-loss and perplexity on a corpus, and the mean KL of the model from each reference in nats."""
    nll: list[NDArray[np.float64]] = []
    kl: dict[str, list[NDArray[np.float64]]] = {name: [] for name in references}
    kept = {name: _kept(directory) for name, directory in references.items()}
    for batch, log_q in zip(corpus_batches(corpus, vocabulary_size(model)), log_probs(model, corpus), strict=True):
        nll.append(token_nll(log_q, torch.from_numpy(batch.ids)).ravel())
        for name, stored in kept.items():
            kl[name].append(kl_nats(next(stored), log_q).ravel())
    losses = np.concatenate(nll)
    found = {"nll_mean": float(losses.mean()), "perplexity": float(np.exp(losses.mean())), "num_tokens": float(losses.size)}
    return found | {f"kl_from_{name}_nats": float(np.concatenate(values).mean()) for name, values in kl.items()}


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
