"""What a training changed: on what was held out, and on text that it never saw. Before is the base, after the best weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.evaluation.corpora import Corpus, log_probs, score
from quantry_worker.child.evaluation.figures import figures
from quantry_worker.child.numerics.bootstrap import CONFIDENCE, mean_interval
from quantry_worker.child.training.order import HeldOutScores

NLL = "nll_mean"


class Float32Model:
    """A trained model as the evaluation takes one: token ids on the CPU in, float32 logits on the CPU out, no random numbers drawn.

    ``is_before`` leaves its adapter out: the base itself.
    """

    def __init__(self, model: Any, *, is_before: bool) -> None:
        self._model = model
        self._is_before = is_before

    def __call__(self, input_ids: torch.Tensor, **settings: Any) -> Any:
        device = self._model.get_output_embeddings().weight.device
        with self._adapter():
            found = self._model(input_ids=input_ids.to(device), **settings)
        found.logits = found.logits.float().cpu()
        return found

    def get_output_embeddings(self) -> Any:
        return self._model.get_output_embeddings()

    @contextmanager
    def _adapter(self) -> Iterator[None]:
        if not self._is_before:
            yield
            return
        with self._model.disable_adapter():
            yield


def held_out_evidence(before: HeldOutScores, after: HeldOutScores, *, seed: int, is_log_loss: bool) -> EvidenceDraft:
    """Returns both means, their difference with its paired interval, and perplexities where the mean is a log-loss of text."""
    name = after.name
    found: dict[str, Any] = {
        name: after.mean,
        f"reference_{name}": before.mean,
        "num_samples": len(after.sums),
        "num_tokens": int(after.counts.sum()),
    }
    found |= after.figures | {f"reference_{key}": value for key, value in before.figures.items()}
    change = {"mean": after.mean - before.mean}
    # Answers that a model gives itself have lengths of their own; what is compared then is each sample's mean.
    if np.array_equal(before.counts, after.counts):
        interval = mean_interval(after.sums - before.sums, after.counts, seed=seed)
    else:
        interval = mean_interval(after.sums / after.counts - before.sums / before.counts, np.ones(len(after.sums)), seed=seed)
    if interval is not None:
        change |= {"low": interval.low, "high": interval.high}
        found |= {"confidence": CONFIDENCE, "bootstrap_blocks": interval.num_blocks, "bootstrap_resamples": interval.num_resamples}
    label = "nll_increase" if name == NLL else f"{name}_increase"
    unit = "_nats" if name == NLL else ""
    found |= {f"{label}{unit}" if key == "mean" else f"{label}_{key}{unit}": value for key, value in change.items()}
    if is_log_loss:
        found |= {"perplexity": _exp(after.mean), "reference_perplexity": _exp(before.mean), "perplexity_ratio": _exp(change["mean"])}
    return _draft("validation", found)


def corpus_evidence(model: Any, base: Any, corpora: list[Corpus], *, seed: int, ref: str) -> Iterator[EvidenceDraft]:
    """Yields an evidence of each corpus, the base being the reference: perplexities, divergence, and the change of the log-loss."""
    for corpus in corpora:
        scores = score(model, log_probs(base, corpus), corpus, lambda _: None)
        yield _draft(corpus.ref, figures(scores, seed=seed) | {"against": ref})


def training_evidence(facts: dict[str, Any]) -> EvidenceDraft:
    """Returns what was done: it says no more than that it ended as it should."""
    return EvidenceDraft(kind=EvidenceKind.EVALUATION, name="training", verdict=Verdict.PASS, metrics=facts)


def _draft(name: str, metrics: dict[str, Any]) -> EvidenceDraft:
    return EvidenceDraft(kind=EvidenceKind.EVALUATION, name=name, verdict=Verdict.INCONCLUSIVE, metrics=metrics)


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))
