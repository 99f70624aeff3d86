"""Check ``quality``: the version against its master, within the job's thresholds.

One model is in memory at a time: the master is looked at first, what it made of everything is kept on disk (``kept.py``), and it
is given up before the version is loaded. Texts, odd inputs and tasks are scored as an evaluate job scores them
(``child/evaluation``). A threshold on a figure that could not be measured, or that is not finite, is not kept: the gate knows no
inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from quantry_core.errors import InvalidInput
from quantry_core.families import context_tokens
from quantry_core.gate import GateCheck
from quantry_core.jobs import InputRole, QualitySpec
from quantry_core.thresholds import Part, thresholds_on
from quantry_core.versions import EvidenceDraft, Verdict
from quantry_worker.child.evaluation import extremes, harness
from quantry_worker.child.evaluation.attention import attention_maps, compare_maps
from quantry_worker.child.evaluation.corpora import Corpus, log_probs, read_corpora, score, scored
from quantry_worker.child.evaluation.figures import Figures, figures
from quantry_worker.child.evaluation.results import TASKS, write_rows, write_tokens
from quantry_worker.child.evaluation.sizes import size_figures
from quantry_worker.child.evaluation.verdicts import broken_thresholds, missing_figures, worst
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.gate.kept import keep, kept
from quantry_worker.child.inputs import inputs_of
from quantry_worker.child.numerics.model import load_model
from quantry_worker.child.numerics.release import release_memory
from quantry_worker.child.numerics.tokenizer import load_tokenizer

ARTIFACTS = "quality"
"""Folder of the raw scores among the job's artifacts."""
MASTER_SHARE = 0.5
"""Of the check: the master's half, then the version's."""


@dataclass(frozen=True)
class Asked:
    """What both models are looked at with."""

    given: GateInput
    quality: QualitySpec
    corpora: list[Corpus]
    tasks: harness.LoadedTasks
    folder: Path
    """Of what is kept of the master, while the check runs."""

    @property
    def compares_attention(self) -> bool:
        return bool(thresholds_on(self.quality.thresholds, Part.ATTENTION))

    def kept_scores(self, index: int) -> Path:
        """The folder of what is kept of one corpus."""
        return self.folder / f"corpus-{index}"

    @property
    def kept_maps(self) -> Path:
        return self.folder / "attention"


@dataclass(frozen=True)
class OfMaster:
    """What is kept of the master in memory, beside what lies on disk."""

    answers: list[extremes.Answer] | None
    tasks: dict[str, Any] | None
    config: Any


@dataclass
class Findings:
    """What was found of the version."""

    metrics: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def judge(self, found: Mapping[str, Any], thresholds: Mapping[str, float], about: str = "") -> None:
        """Adds in words every threshold that is not kept."""
        missing = [f"{name} could not be measured" for name in missing_figures(found, thresholds)]
        self.problems += [f"{about}{words}" for words in broken_thresholds(found, thresholds) + missing]


def check_quality(given: GateInput) -> EvidenceDraft:
    """Returns evidence with the figures of each corpus, and the worst of them for every threshold.

    Raises InvalidInput where the texts are too short for one window or a task is not on this machine, ValueError for a job that
    asks for no quality.
    """
    quality = given.plan.spec.quality
    if quality is None:
        raise ValueError("this job asks for no quality: the check is not run")
    torch.set_num_threads(given.task.num_threads)
    # Beside the output, in the folder that goes with the attempt.
    with TemporaryDirectory(dir=given.task.output_dir.parent, prefix="quality-") as folder:
        tasks = {} if quality.tasks is None else harness.load_tasks(quality.tasks)
        asked = Asked(given, quality, _read(given, quality), tasks, Path(folder))
        given.on_progress(0.0, "loading the master")
        of_master = _look_at_master(asked)
        release_memory()
        given.on_progress(MASTER_SHARE, "loading the version")
        try:
            model = load_model(given.output_dir)
        # Whatever a library makes of a checkpoint that it cannot load.
        except (InvalidInput, OSError, ValueError, KeyError, RuntimeError) as error:
            return evidence(
                GateCheck.QUALITY, [f"it cannot be loaded: {type(error).__name__}: {error}"], {"thresholds": quality.thresholds}
            )
        found = Findings()
        _score_corpora(asked, model, found)
        if asked.compares_attention:
            compared = compare_maps(attention_maps(model, asked.corpora), kept(asked.kept_maps))
            found.metrics |= compared
            found.judge(compared, thresholds_on(quality.thresholds, Part.ATTENTION), "attention: ")
        _try_extremes(asked, model, of_master, found)
        _run_tasks(asked, model, of_master, found)
    _weigh(asked, found)
    about = {"thresholds": quality.thresholds, "seed": quality.seed, "sampling": scored(asked.corpora).as_json()}
    return evidence(GateCheck.QUALITY, found.problems, found.metrics | about)


def _look_at_master(asked: Asked) -> OfMaster:
    """Keeps the master's scores and maps on disk, and returns the rest; the model is given up."""
    model = load_model(asked.given.master_dir)
    for index, corpus in enumerate(asked.corpora):
        for _ in keep(asked.kept_scores(index), ((one,) for one in log_probs(model, corpus))):
            asked.given.on_progress(MASTER_SHARE * index / len(asked.corpora), f"{corpus.ref}: the master")
    if asked.compares_attention:
        for _ in keep(asked.kept_maps, attention_maps(model, asked.corpora)):
            pass
    tokenizer = load_tokenizer(asked.given.master_dir)
    answers = extremes.answer_extremes(model, tokenizer, model.config, _nobody) if asked.quality.extremes else None
    return OfMaster(answers, _harness_document(asked, model), model.config)


def _score_corpora(asked: Asked, model: Any, found: Findings) -> None:
    """Scores the version on every text, against what is kept of the master."""
    thresholds = thresholds_on(asked.quality.thresholds, Part.CORPORA)
    by_corpus: dict[str, Figures] = {}
    for index, corpus in enumerate(asked.corpora):

        def on_windows(num_done: int, corpus: Corpus = corpus, before: int = index) -> None:
            share = (before + num_done / len(corpus.windows)) / len(asked.corpora)
            asked.given.on_progress(MASTER_SHARE + (1 - MASTER_SHARE) * share, corpus.ref)

        scores = score(model, _kept_log_probs(asked.kept_scores(index)), corpus, on_windows)
        write_tokens(asked.given.task.artifacts_dir / ARTIFACTS, corpus.ref, scores)
        by_corpus[corpus.ref] = figures(scores, seed=asked.quality.seed)
        found.judge(by_corpus[corpus.ref], thresholds, f"{corpus.ref}: ")
    found.metrics |= worst(by_corpus.values(), thresholds) | {"corpora": by_corpus}


def _kept_log_probs(directory: Path) -> Iterator[torch.Tensor]:
    for (one,) in kept(directory):
        yield one


def _try_extremes(asked: Asked, model: Any, of_master: OfMaster, found: Findings) -> None:
    """Tries the odd inputs where the job asks for them: a case that raises or is not finite is a problem, threshold or not."""
    if of_master.answers is None:
        return
    tokenizer = load_tokenizer(asked.given.output_dir)
    ours = extremes.answer_extremes(model, tokenizer, of_master.config, _nobody)
    cases = extremes.compare_answers(ours, of_master.answers, tokenizer)
    if extremes.verdict(cases) is Verdict.FAIL:
        broken = [case["name"] for case in cases if "skipped" not in case and not (case["runs"] and case["is_finite"])]
        found.problems.append(f"extremes: it does not run, or its logits are not finite, on {', '.join(broken)}")
    compared = extremes.extremes_figures(cases)
    found.metrics |= {"cases": cases} | compared
    found.judge(compared, thresholds_on(asked.quality.thresholds, Part.EXTREMES))


def _run_tasks(asked: Asked, model: Any, of_master: OfMaster, found: Findings) -> None:
    document = _harness_document(asked, model)
    if document is None:
        return
    by_task: dict[str, dict[str, Any]] = {}
    for name in harness.reported(document, list(asked.tasks), asked.quality.thresholds):
        compared = harness.compared_figures(document, of_master.tasks, name)
        by_task[name] = compared | harness.task_facts(document, name)
        bounded, thresholds = harness.bounded_figures(compared, name), thresholds_on(asked.quality.thresholds, Part.TASKS, name)
        found.metrics |= {bound: bounded[bound] for bound in thresholds if bound in bounded}
        found.judge(bounded, thresholds)
    found.metrics["tasks"] = by_task
    rows = ({"task": name} | sample for name, samples in document["samples"].items() for sample in samples)
    write_rows(asked.given.task.artifacts_dir / ARTIFACTS, TASKS, rows)


def _weigh(asked: Asked, found: Findings) -> None:
    thresholds = thresholds_on(asked.quality.thresholds, Part.SIZE)
    sizes = size_figures([asked.given.output_dir], [asked.given.master_dir])
    found.metrics |= {name: sizes[name] for name in thresholds if name in sizes}
    found.judge(sizes, thresholds)


def _harness_document(asked: Asked, model: Any) -> dict[str, Any] | None:
    """Returns what lm-evaluation-harness says of a model, with the master's tokenizer; None where no task is asked for."""
    if asked.quality.tasks is None:
        return None
    tokenizer = load_tokenizer(asked.given.master_dir)
    return harness.run_tasks(model, tokenizer, asked.tasks, asked.quality.tasks, seed=asked.quality.seed)


def _nobody(_index: int, _name: str) -> None:
    """Nobody wants to know."""


def _read(given: GateInput, quality: QualitySpec) -> list[Corpus]:
    return read_corpora(
        [given.master_dir],
        inputs_of(given.task, InputRole.CORPUS),
        window_tokens=min(quality.window_tokens, context_tokens(given.master.config) or quality.window_tokens),
        stride_tokens=None,
        max_windows=quality.max_windows,
    )
