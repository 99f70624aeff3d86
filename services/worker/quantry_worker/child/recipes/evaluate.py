"""Evaluates a version on corpora: perplexity, and closeness to a reference version where one is named.

Both models compute in float32, whatever they are stored in, and a quantized one is dequantized first: the figures then say
what quantization did to the weights, not what a kernel's rounding adds. Windows are scored alone (no overlap, no carried
context). Both models see a batch before the next one is taken, so no logits are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from quantry_core.errors import InvalidInput
from quantry_core.jobs import EvaluateSpec, InputRole
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.failures import Diverged
from quantry_worker.child.inputs import inputs_of, only_input
from quantry_worker.child.numerics.divergence import DivergenceTally, kl_nats, same_top1
from quantry_worker.child.numerics.model import load_model, read_config, vocabulary_size
from quantry_worker.child.numerics.perplexity import NllTally, batch_windows, next_token_log_probs, token_nll
from quantry_worker.child.numerics.text import Tokens, TokenStream, check_length, scoring_windows
from quantry_worker.child.numerics.tokenizer import tokenize
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.child.toolchain import toolchain
from quantry_worker.protocol import ChildInput, ChildResult, ChildTask

MAX_PERPLEXITY_RATIO = 1.02
"""A version whose perplexity is at most this many times its reference's passes. Without a reference nothing is said."""

LOADING, SCORING = 0.05, 0.15
"""Share of the work at which each phase begins."""


@dataclass(frozen=True)
class Corpus:
    ref: str
    windows: Tokens
    """Shape [num_windows, window_tokens]."""


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Returns one evidence per corpus.

    Raises InvalidInput for windows or corpora that do not fit the models, Diverged for losses that are not finite.
    """
    if not isinstance(task.spec, EvaluateSpec):
        raise TypeError(f"the evaluate recipe got a {task.spec.type} job")
    torch.set_num_threads(task.num_threads)
    subject = only_input(task, InputRole.SUBJECT)
    reference = next(iter(inputs_of(task, InputRole.REFERENCE)), None)
    reporter.progress("reading corpora", 0.0)
    corpora = read_corpora(task.spec, subject, reference, inputs_of(task, InputRole.CORPUS))
    reporter.progress("loading", LOADING, subject.ref)
    model = load_model(subject.path)
    reference_model = None
    if reference is not None:
        reporter.progress("loading", (LOADING + SCORING) / 2, reference.ref)
        reference_model = load_model(reference.path)
    num_windows, num_scored = sum(len(corpus.windows) for corpus in corpora), 0
    evidence: list[EvidenceDraft] = []
    for corpus in corpora:

        def on_batch(num_done: int, ref: str = corpus.ref, before: int = num_scored, in_all: int = len(corpus.windows)) -> None:
            share = (before + num_done) / num_windows
            reporter.progress("scoring", SCORING + (1 - SCORING) * share, ref, Units(num_done, in_all, "windows"))

        evidence.append(_evidence(corpus, score(model, reference_model, corpus.windows, on_batch)))
        num_scored += len(corpus.windows)
    return ChildResult(
        evidence=evidence,
        metrics={
            "corpora": {one.name: one.metrics for one in evidence},
            "compute_dtype": "float32",
            "toolchain": toolchain("torch", "transformers", "compressed-tensors"),
        },
    )


def read_corpora(spec: EvaluateSpec, subject: ChildInput, reference: ChildInput | None, datasets: list[ChildInput]) -> list[Corpus]:
    """Returns every corpus in windows of token ids; raises InvalidInput where they do not fit the models."""
    for version in (subject, reference):
        if version is not None:
            check_length(spec.window_tokens, read_config(version.path), field="window_tokens")
    streams = tokenize(subject.path, datasets)
    if reference is not None:
        _check_same_words(subject, reference, streams, tokenize(reference.path, datasets))
    return [
        Corpus(stream.ref, scoring_windows(stream, window_tokens=spec.window_tokens, max_windows=spec.max_windows)) for stream in streams
    ]


def score(model: Any, reference_model: Any | None, windows: Tokens, on_batch: Callable[[int], None]) -> dict[str, float | int]:
    """Returns the metrics of one corpus, windows of shape [N, T]; those against the reference only where there is one."""
    nll, reference_nll, divergence = NllTally(), NllTally(), DivergenceTally()
    ids = torch.from_numpy(windows)
    num_done = 0
    with torch.inference_mode():
        for batch in ids.split(batch_windows(ids.shape[1], vocabulary_size(model))):
            log_q = next_token_log_probs(model, batch)
            nll.add(token_nll(log_q, batch))
            if reference_model is not None:
                log_p = next_token_log_probs(reference_model, batch)
                reference_nll.add(token_nll(log_p, batch))
                divergence.add(kl_nats(log_p, log_q), same_top1(log_p, log_q))
            num_done += len(batch)
            on_batch(num_done)
    metrics: dict[str, float | int] = {
        "perplexity": nll.perplexity,
        "nll_mean": nll.mean_nats,
        "num_tokens": nll.num_tokens,
        "num_windows": len(ids),
        "window_tokens": ids.shape[1],
    }
    if reference_model is not None:
        metrics["reference_perplexity"] = reference_nll.perplexity
        metrics["perplexity_ratio"] = nll.perplexity / reference_nll.perplexity
        metrics.update(divergence.metrics())
    return metrics


def verdict(metrics: dict[str, float | int]) -> Verdict:
    """Returns pass or fail by the perplexity ratio; inconclusive where there was no reference to compare with."""
    if "perplexity_ratio" not in metrics:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS if metrics["perplexity_ratio"] <= MAX_PERPLEXITY_RATIO else Verdict.FAIL


def _evidence(corpus: Corpus, metrics: dict[str, float | int]) -> EvidenceDraft:
    infinite = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if infinite:
        raise Diverged(f"on {corpus.ref} these are infinite or not a number: {', '.join(infinite)}")
    return EvidenceDraft(
        kind=EvidenceKind.EVALUATION,
        name=corpus.ref,
        verdict=verdict(metrics),
        metrics=metrics | {"max_perplexity_ratio": MAX_PERPLEXITY_RATIO},
    )


def _check_same_words(subject: ChildInput, reference: ChildInput, ours: list[TokenStream], theirs: list[TokenStream]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        if mine.tokens.shape != other.tokens.shape or (mine.tokens != other.tokens).any():
            raise InvalidInput(
                f"{subject.ref} and {reference.ref} cut {mine.ref} into different tokens: "
                "their perplexities cannot be compared, and no KL can be taken"
            )
