"""Check ``quality``: the version against its master, on text, within the job's thresholds.

Both are scored as an evaluate job scores them (``child/evaluation``), each once. A threshold on a figure that could not be
measured, or that is not finite, is not kept: the gate knows no inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from quantry_core.errors import InvalidInput
from quantry_core.families import context_tokens
from quantry_core.gate import GateCheck
from quantry_core.jobs import InputRole, QualitySpec
from quantry_core.metrics import METRICS, Better
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.evaluation.attention import compare_attention
from quantry_worker.child.evaluation.corpora import Corpus, read_corpora, score, scored
from quantry_worker.child.evaluation.figures import Figures, figures
from quantry_worker.child.evaluation.results import write_tokens
from quantry_worker.child.evaluation.verdicts import broken_thresholds, missing_figures, of_attention, of_corpora
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.inputs import inputs_of
from quantry_worker.child.numerics.model import load_model

ARTIFACTS = "quality"
"""Folder of the raw scores among the job's artifacts."""


def check_quality(given: GateInput) -> EvidenceDraft:
    """Returns evidence with the figures of each corpus, and the worst of them for every threshold.

    Raises InvalidInput where the texts are too short for one window, ValueError for a job that asks for no quality.
    """
    quality = given.plan.spec.quality
    if quality is None:
        raise ValueError("this job asks for no quality: the check is not run")
    torch.set_num_threads(given.task.num_threads)
    corpora = _read(given, quality)
    given.on_progress(0.0, "loading the master")
    master = load_model(given.master_dir)
    try:
        model = load_model(given.output_dir)
    # Whatever a library makes of a checkpoint that it cannot load.
    except (InvalidInput, OSError, ValueError, KeyError, RuntimeError) as error:
        return evidence(GateCheck.QUALITY, [f"it cannot be loaded: {type(error).__name__}: {error}"], {"thresholds": quality.thresholds})
    by_corpus: dict[str, Figures] = {}
    for index, corpus in enumerate(corpora):

        def on_windows(num_done: int, corpus: Corpus = corpus, before: int = index) -> None:
            given.on_progress((before + num_done / len(corpus.windows)) / len(corpora), corpus.ref)

        scores = score(model, master, corpus, on_windows)
        write_tokens(given.task.artifacts_dir / ARTIFACTS, corpus.ref, scores)
        by_corpus[corpus.ref] = figures(scores, seed=quality.seed)
    problems = [problem for ref, found in by_corpus.items() for problem in _problems(ref, found, of_corpora(quality.thresholds))]
    attention: dict[str, Any] = {}
    if of_attention(quality.thresholds):
        attention = compare_attention(model, master, corpora)
        problems += _problems("attention", attention, of_attention(quality.thresholds))
    about = {"corpora": by_corpus, "thresholds": quality.thresholds, "seed": quality.seed, "sampling": scored(corpora).as_json()}
    return evidence(GateCheck.QUALITY, problems, worst(by_corpus, of_corpora(quality.thresholds)) | attention | about)


def worst(by_corpus: Mapping[str, Figures], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Returns for every threshold the figure of the corpus that is worst in it; those that no corpus has are left out."""
    found: dict[str, Any] = {}
    for name in thresholds:
        values = [value for one in by_corpus.values() if (value := one.get(name)) is not None]
        if values:
            found[name] = max(values) if METRICS[name].better is Better.LOWER else min(values)
    return found


def _problems(ref: str, found: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[str]:
    """Returns in words every threshold that is not kept on one corpus."""
    missing = [f"{name} could not be measured" for name in missing_figures(found, thresholds)]
    return [f"{ref}: {words}" for words in broken_thresholds(found, thresholds) + missing]


def _read(given: GateInput, quality: QualitySpec) -> list[Corpus]:
    return read_corpora(
        [given.master_dir],
        inputs_of(given.task, InputRole.CORPUS),
        window_tokens=min(quality.window_tokens, context_tokens(given.master.config) or quality.window_tokens),
        stride_tokens=None,
        max_windows=quality.max_windows,
    )
