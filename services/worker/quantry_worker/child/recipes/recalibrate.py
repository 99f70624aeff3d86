"""Quantizes a master again with the recipe of the version that serves, on newer text, and compares the two versions.

Both are scored with the master as their reference. The candidate is no worse on a corpus where the interval of its change
against the serving version, by paired bootstrap, ends below the margin: a test of non-inferiority (Wellek 2010, "Testing Statistical
Hypotheses of Equivalence and Noninferiority", chapter 2). Where all of the interval lies above the margin it is worse; in
between nothing is decided. The change is that of the divergence from the master, or of the log-loss; ADR 9 says why.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from quantry_core.jobs import InputRole, JudgedBy, RecalibrateSpec
from quantry_core.recalibration import COMPARISON_PREFIX, settings_of
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict, VersionState
from quantry_worker.child.evaluation.corpora import Corpus, OnWindows, log_probs, read_corpora, score
from quantry_worker.child.evaluation.figures import Figures, TokenScores, figures_beside
from quantry_worker.child.evaluation.results import TOKENS, write_results, write_tokens
from quantry_worker.child.failures import Diverged
from quantry_worker.child.inputs import inputs_of, only_input
from quantry_worker.child.numerics.model import load_model, read_config
from quantry_worker.child.numerics.release import release_memory
from quantry_worker.child.numerics.text import check_length
from quantry_worker.child.recipes import quantize
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.protocol import ChildResult, ChildTask

MADE, HALF_COMPARED = 0.7, 0.85
"""Shares of the work at which the candidate is made, and the serving version is scored."""
SERVING_TOKENS = "serving"
"""Folder of the serving version's raw scores among the artifacts; the candidate's are where an evaluation has them."""


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Returns the candidate with its gate's evidence, and one comparison with the serving version for each corpus.

    A candidate that failed its gate is compared with nothing. Raises what the quantize recipe raises, InvalidInput for a
    corpus that does not fit the models, Diverged for losses that are not finite.
    """
    spec = task.spec
    if not isinstance(spec, RecalibrateSpec) or spec.recipe is None:
        raise TypeError(f"the recalibrate recipe got a {spec.type} job without a recipe")
    serving = only_input(task, InputRole.REFERENCE)
    check_length(spec.window_tokens, read_config(serving.path), field="window_tokens")
    made = quantize.run(_quantize_task(task, spec), reporter.part(0.0, MADE))
    if made.version is None or made.version.state is not VersionState.READY:
        return made
    comparisons = compare(task, spec, reporter)
    write_results(task.artifacts_dir, [*made.evidence, *comparisons], {"spec": spec.model_dump(mode="json")})
    return made.model_copy(update={"evidence": [*made.evidence, *comparisons]})


def compare(task: ChildTask, spec: RecalibrateSpec, reporter: Reporter) -> list[EvidenceDraft]:
    """Returns the figures of the candidate in ``output_dir`` against the version that serves, one evidence for each corpus."""
    serving, master = only_input(task, InputRole.REFERENCE), only_input(task, InputRole.BASE)
    reporter.progress("comparing", MADE, serving.ref)
    corpora = read_corpora(
        [task.output_dir, serving.path, master.path],
        inputs_of(task, InputRole.COMPARISON),
        window_tokens=spec.window_tokens,
        stride_tokens=None,
        max_windows=spec.max_windows,
    )
    master_model = load_model(master.path)
    serving_scores = _score_all(serving.path, master_model, corpora, reporter.part(MADE, HALF_COMPARED))
    candidate_scores = _score_all(task.output_dir, master_model, corpora, reporter.part(HALF_COMPARED, 1.0))
    evidence: list[EvidenceDraft] = []
    for corpus, ours, theirs in zip(corpora, candidate_scores, serving_scores, strict=True):
        found = figures_beside(ours, theirs, seed=spec.seed)
        infinite = sorted(name for name, value in found.items() if value is not None and not math.isfinite(value))
        if infinite:
            raise Diverged(f"on {corpus.ref} these are infinite or not a number: {', '.join(infinite)}")
        write_tokens(task.artifacts_dir / TOKENS, corpus.ref, ours)
        write_tokens(task.artifacts_dir / SERVING_TOKENS, corpus.ref, theirs)
        evidence.append(_comparison(corpus.ref, found, spec, serving.ref))
    return evidence


def _score_all(path: Path, master: Any, corpora: list[Corpus], reporter: Reporter) -> list[TokenScores]:
    """Returns a version's scores on every corpus beside the master's; the version is in memory only while that is done."""
    model = load_model(path)
    scores = []
    for index, corpus in enumerate(corpora):
        part = reporter.part(index / len(corpora), (index + 1) / len(corpora))
        scores.append(score(model, log_probs(master, corpus), corpus, _telling(part, corpus)))
    del model
    release_memory()
    return scores


def _telling(reporter: Reporter, corpus: Corpus) -> OnWindows:
    def on_windows(num_done: int) -> None:
        total = len(corpus.windows)
        reporter.progress("comparing", num_done / total, corpus.ref, Units(num_done, total, "windows"))

    return on_windows


def verdict(found: Figures, judged_by: JudgedBy, margin_nats: float) -> Verdict:
    """Returns pass where the interval of the change ends below the margin, fail where it begins above it, else inconclusive."""
    change = {JudgedBy.KL: "kl_increase", JudgedBy.LOG_LOSS: "nll_increase"}[judged_by]
    low, high = found.get(f"{change}_low_nats"), found.get(f"{change}_high_nats")
    if low is None or high is None:
        return Verdict.INCONCLUSIVE
    if high <= margin_nats:
        return Verdict.PASS
    return Verdict.FAIL if low > margin_nats else Verdict.INCONCLUSIVE


def _comparison(ref: str, found: Figures, spec: RecalibrateSpec, serving: str) -> EvidenceDraft:
    about = {"against": serving, "against_version_id": spec.serving, **settings_of(spec)}
    judged = verdict(found, spec.judged_by, spec.margin_nats)
    return EvidenceDraft(kind=EvidenceKind.EVALUATION, name=COMPARISON_PREFIX + ref, verdict=judged, metrics=found | about)


def _quantize_task(task: ChildTask, spec: RecalibrateSpec) -> ChildTask:
    """Returns the task of the quantize job that this one contains."""
    roles = {InputRole.BASE, InputRole.CALIBRATION, InputRole.CORPUS}
    return task.model_copy(update={"spec": spec.recipe, "inputs": [one for one in task.inputs if one.role in roles]})
