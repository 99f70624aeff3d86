"""Quantizes a master again with the recipe of the version that serves, on newer text, and compares the two versions.

The candidate is no worse on a corpus where the interval of its change in log-loss against the serving version, by paired
bootstrap, ends below the margin: a test of non-inferiority (Wellek 2010, "Testing Statistical Hypotheses of Equivalence and
Noninferiority", chapter 2). Where all of the interval lies above the margin it is worse; in between nothing is decided.
"""

from __future__ import annotations

import math
from typing import Any

from quantry_core.jobs import InputRole, RecalibrateSpec
from quantry_core.recalibration import COMPARISON_PREFIX
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict, VersionState
from quantry_worker.child.evaluation.corpora import Corpus, OnWindows, read_corpora, score
from quantry_worker.child.evaluation.figures import figures
from quantry_worker.child.evaluation.results import TOKENS, write_results, write_tokens
from quantry_worker.child.failures import Diverged
from quantry_worker.child.inputs import inputs_of, only_input
from quantry_worker.child.numerics.model import load_model, read_config
from quantry_worker.child.numerics.text import check_length
from quantry_worker.child.recipes import quantize
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.protocol import ChildResult, ChildTask

MADE, LOADED = 0.7, 0.8
"""Shares of the work at which the candidate is made, and both versions are loaded."""


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
    serving = only_input(task, InputRole.REFERENCE)
    reporter.progress("comparing", MADE, serving.ref)
    corpora = read_corpora(
        [task.output_dir, serving.path],
        inputs_of(task, InputRole.COMPARISON),
        window_tokens=spec.window_tokens,
        stride_tokens=None,
        max_windows=spec.max_windows,
    )
    candidate_model, serving_model = load_model(task.output_dir), load_model(serving.path)
    evidence: list[EvidenceDraft] = []
    for index, corpus in enumerate(corpora):
        begin, end = (LOADED + (1 - LOADED) * place / len(corpora) for place in (index, index + 1))
        scores = score(candidate_model, serving_model, corpus, _telling(reporter.part(begin, end), corpus))
        found = figures(scores, seed=spec.seed)
        infinite = sorted(name for name, value in found.items() if value is not None and not math.isfinite(value))
        if infinite:
            raise Diverged(f"on {corpus.ref} these are infinite or not a number: {', '.join(infinite)}")
        write_tokens(task.artifacts_dir / TOKENS, corpus.ref, scores)
        evidence.append(_comparison(corpus.ref, found, spec, serving.ref))
    return evidence


def _telling(reporter: Reporter, corpus: Corpus) -> OnWindows:
    def on_windows(num_done: int) -> None:
        total = len(corpus.windows)
        reporter.progress("comparing", num_done / total, corpus.ref, Units(num_done, total, "windows"))

    return on_windows


def verdict(figures_: dict[str, Any], margin_nats: float) -> Verdict:
    """Returns pass where the interval of the change ends below the margin, fail where it begins above it, else inconclusive."""
    low, high = figures_.get("nll_increase_low_nats"), figures_.get("nll_increase_high_nats")
    if low is None or high is None:
        return Verdict.INCONCLUSIVE
    if high <= margin_nats:
        return Verdict.PASS
    return Verdict.FAIL if low > margin_nats else Verdict.INCONCLUSIVE


def _comparison(ref: str, found: dict[str, Any], spec: RecalibrateSpec, serving: str) -> EvidenceDraft:
    about = {"against": serving, "margin_nats": spec.margin_nats, "window_tokens": spec.window_tokens, "seed": spec.seed}
    return EvidenceDraft(
        kind=EvidenceKind.EVALUATION, name=COMPARISON_PREFIX + ref, verdict=verdict(found, spec.margin_nats), metrics=found | about
    )


def _quantize_task(task: ChildTask, spec: RecalibrateSpec) -> ChildTask:
    """Returns the task of the quantize job that this one contains."""
    roles = {InputRole.BASE, InputRole.CALIBRATION, InputRole.CORPUS}
    return task.model_copy(update={"spec": spec.recipe, "inputs": [one for one in task.inputs if one.role in roles]})
