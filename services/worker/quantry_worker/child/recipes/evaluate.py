"""Evaluates a version: figures on corpora and against a reference version, attention maps, odd inputs, tasks, and speed.

What can be refused is refused before a model is loaded. Both models compute in float32, whatever they are stored in: the
figures then say what quantization did, not what a kernel's rounding adds. See numerics/model.py for what is rounded. An adapter is
evaluated unmerged, on the version that it was trained on.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import InvalidInput
from quantry_core.estimates.facts import facts_of
from quantry_core.jobs import EvaluateSpec, InputRole, SpeedSpec
from quantry_core.thresholds import Part, thresholds_on
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.engine import HOST, EngineFacts, kv_cache_bytes, running_engine, task_engine
from quantry_worker.child.evaluation import extremes, harness
from quantry_worker.child.evaluation.attention import attention_maps, compare_maps
from quantry_worker.child.evaluation.corpora import Corpus, log_probs, read_corpora, score, scored
from quantry_worker.child.evaluation.figures import figures
from quantry_worker.child.evaluation.results import TASKS, TOKENS, write_results, write_rows, write_tokens
from quantry_worker.child.evaluation.servability import check_speed
from quantry_worker.child.evaluation.sizes import size_figures
from quantry_worker.child.evaluation.speed import Server, measure
from quantry_worker.child.evaluation.subjects import Subject, subject_of
from quantry_worker.child.evaluation.verdicts import broken_thresholds, verdict, worst
from quantry_worker.child.failures import Diverged
from quantry_worker.child.inputs import inputs_of, only_input
from quantry_worker.child.numerics.model import read_config
from quantry_worker.child.numerics.text import check_length
from quantry_worker.child.numerics.tokenizer import load_tokenizer
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.child.toolchain import toolchain
from quantry_worker.protocol import ChildResult, ChildTask

LOADING, MEASURING = 0.05, 0.15
"""Share of the work at which each phase begins. What is measured shares the rest evenly."""


@dataclass
class Evaluation:
    """A job under way: what was asked, what is loaded, what was found."""

    task: ChildTask
    spec: EvaluateSpec
    reporter: Reporter
    subject: Subject
    reference: Subject | None
    corpora: list[Corpus]
    tasks: harness.LoadedTasks
    model: Any = None
    reference_model: Any = None
    evidence: list[EvidenceDraft] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, decided: Verdict, metrics: dict[str, Any]) -> None:
        self.evidence.append(EvidenceDraft(kind=EvidenceKind.EVALUATION, name=name, verdict=decided, metrics=metrics))

    def add_compared(self, name: str, decided: Verdict, metrics: dict[str, Any]) -> None:
        """Adds evidence whose figures were measured beside the reference's, where there is one: it says which version that is."""
        against = {} if self.reference is None else {"against": self.reference.ref, "against_version_id": self.reference.id}
        self.add(name, decided, metrics | against)


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Returns one evidence per corpus, then attention, extremes, each task and speed as far as they were asked for.

    Raises InvalidInput for what does not fit the models or cannot be had on this machine, Diverged for losses that are not finite.
    """
    if not isinstance(task.spec, EvaluateSpec):
        raise TypeError(f"the evaluate recipe got a {task.spec.type} job")
    torch.set_num_threads(task.num_threads)
    reporter.progress("checking", 0.0)
    job = prepare(task, task.spec, reporter)
    steps = _steps(job)
    for index, (phase, step) in enumerate(steps):
        begin, end = (MEASURING + (1 - MEASURING) * place / len(steps) for place in (index, index + 1))
        step(job, _within(reporter, phase, begin, end))
    about = {
        "spec": task.spec.model_dump(mode="json"),
        "compute_dtype": "float32",
        "toolchain": toolchain("torch", "transformers", "compressed-tensors"),
    }
    if job.corpora:
        job.facts["sampling"] = scored(job.corpora).as_json()
    write_results(task.artifacts_dir, job.evidence, about | job.facts)
    corpora = {one.name: one.metrics for one in job.evidence if one.name in {corpus.ref for corpus in job.corpora}}
    return ChildResult(evidence=job.evidence, metrics={"corpora": corpora, **about, **job.facts})


def prepare(task: ChildTask, spec: EvaluateSpec, reporter: Reporter) -> Evaluation:
    """Returns the job with texts and models read; raises InvalidInput before a model is loaded where something cannot be."""
    subject = subject_of(task, only_input(task, InputRole.SUBJECT))
    reference = next((subject_of(task, one) for one in inputs_of(task, InputRole.REFERENCE)), None)
    versions = [subject] if reference is None else [subject, reference]
    if spec.speed is not None:
        job_engine(task, spec.speed, subject)
    for version in versions if spec.corpora else []:
        check_length(spec.window_tokens, read_config(version.model_dir), field="window_tokens")
    corpora = read_corpora(
        [version.model_dir for version in versions],
        inputs_of(task, InputRole.CORPUS),
        window_tokens=spec.window_tokens,
        stride_tokens=spec.stride_tokens,
        max_windows=spec.max_windows,
    )
    tasks = {} if spec.tasks is None else harness.load_tasks(spec.tasks)
    job = Evaluation(task, spec, reporter, subject, reference, corpora, tasks)
    if corpora or spec.extremes or tasks:
        reporter.progress("loading", LOADING, subject.ref)
        job.model = subject.load()
        if reference is not None:
            reporter.progress("loading", (LOADING + MEASURING) / 2, reference.ref)
            job.reference_model = reference.load()
    return job


OnStep = Callable[[float, str, Units | None], None]
"""Told the share of a step that is done, where it is, and how many of what."""


def _steps(job: Evaluation) -> list[tuple[str, Callable[[Evaluation, OnStep], None]]]:
    """Returns what was asked for, by name; speed last, when the models are out of memory."""
    asked = [
        (bool(job.corpora), "scoring", evaluate_corpora),
        (job.spec.attention, "comparing attention", evaluate_attention),
        (job.spec.extremes, "trying extremes", evaluate_extremes),
        (bool(job.tasks), "running tasks", evaluate_tasks),
        (bool(thresholds_on(job.spec.thresholds, Part.SIZE)), "measuring size", evaluate_size),
        (job.spec.speed is not None, "measuring speed", evaluate_speed),
    ]
    return [(phase, step) for is_asked, phase, step in asked if is_asked]


def evaluate_corpora(job: Evaluation, on_step: OnStep) -> None:
    """Adds one evidence for each corpus; raises Diverged where losses are not finite."""
    num_windows, num_before = sum(len(corpus.windows) for corpus in job.corpora), 0
    thresholds = thresholds_on(job.spec.thresholds, Part.CORPORA)
    for corpus in job.corpora:

        def on_windows(num_done: int, corpus: Corpus = corpus, before: int = num_before) -> None:
            on_step((before + num_done) / num_windows, corpus.ref, Units(num_done, len(corpus.windows), "windows"))

        reference = None if job.reference_model is None else log_probs(job.reference_model, corpus)
        scores = score(job.model, reference, corpus, on_windows)
        found = figures(scores, seed=job.spec.seed)
        infinite = sorted(name for name, value in found.items() if value is not None and not math.isfinite(value))
        if infinite:
            raise Diverged(f"on {corpus.ref} these are infinite or not a number: {', '.join(infinite)}")
        write_tokens(job.task.artifacts_dir / TOKENS, corpus.ref, scores)
        found |= {"window_tokens": job.spec.window_tokens, "stride_tokens": job.spec.stride_tokens, "seed": job.spec.seed}
        job.add_compared(corpus.ref, verdict(found, thresholds), found | _judged(found, thresholds))
        num_before += len(corpus.windows)


def evaluate_attention(job: Evaluation, on_step: OnStep) -> None:
    """Adds the comparison of attention maps."""
    on_step(0.0, "", None)
    found = compare_maps(attention_maps(job.model, job.corpora), attention_maps(job.reference_model, job.corpora))
    thresholds = thresholds_on(job.spec.thresholds, Part.ATTENTION)
    job.add_compared("attention", verdict(found, thresholds), found | _judged(found, thresholds))


def evaluate_extremes(job: Evaluation, on_step: OnStep) -> None:
    """Adds what happened on inputs at the edges."""

    def on_case(index: int, name: str) -> None:
        on_step(index / len(extremes.EXTREMES), name, Units(index, len(extremes.EXTREMES), "cases"))

    tokenizer, config = load_tokenizer(job.subject.model_dir), job.model.config
    ours = extremes.answer_extremes(job.model, tokenizer, config, on_case)
    theirs = None if job.reference_model is None else extremes.answer_extremes(job.reference_model, tokenizer, config, on_case)
    cases = extremes.compare_answers(ours, theirs, tokenizer)
    found, thresholds = extremes.extremes_figures(cases), thresholds_on(job.spec.thresholds, Part.EXTREMES)
    decided = extremes.verdict(cases)
    if thresholds and decided is Verdict.PASS:
        decided = verdict(found, thresholds)
    job.add_compared("extremes", decided, {"cases": cases} | found | _judged(found, thresholds))


def evaluate_size(job: Evaluation, on_step: OnStep) -> None:
    """Adds how large the weights are, where a threshold is on it."""
    on_step(0.0, job.subject.ref, None)
    found = size_figures(job.subject.folders, None if job.reference is None else job.reference.folders)
    thresholds = thresholds_on(job.spec.thresholds, Part.SIZE)
    job.add_compared("size", verdict(found, thresholds), found | _judged(found, thresholds))


def evaluate_tasks(job: Evaluation, on_step: OnStep) -> None:
    """Adds one evidence for each task; with a reference its figures stand beside, with ``reference_`` before their names."""
    spec = job.spec.tasks
    if spec is None:
        return
    on_step(0.0, job.subject.ref, None)
    document = harness.run_tasks(job.model, load_tokenizer(job.subject.model_dir), job.tasks, spec, seed=job.spec.seed)
    theirs: dict[str, Any] | None = None
    if job.reference is not None:
        on_step(0.5, job.reference.ref, None)
        theirs = harness.run_tasks(job.reference_model, load_tokenizer(job.reference.model_dir), job.tasks, spec, seed=job.spec.seed)
    for name in harness.reported(document, list(job.tasks), job.spec.thresholds):
        found = harness.compared_figures(document, theirs, name)
        bounded, thresholds = harness.bounded_figures(found, name), thresholds_on(job.spec.thresholds, Part.TASKS, name)
        job.add_compared(
            f"task:{name}", verdict(bounded, thresholds), found | harness.task_facts(document, name) | _judged(bounded, thresholds)
        )
    # One file for all: a group of tasks may stand for more of them than a job may leave files.
    write_rows(
        job.task.artifacts_dir, TASKS, ({"task": name} | sample for name, samples in document["samples"].items() for sample in samples)
    )
    job.facts["lm_eval"] = toolchain("lm-eval")["lm-eval"]


def evaluate_speed(job: Evaluation, on_step: OnStep) -> None:
    """Adds how fast vLLM serves the version, and how much memory it holds."""
    spec = job.spec.speed
    if spec is None:
        return
    facts = facts_of(inspect_checkpoint(DirectoryCheckpoint(job.subject.model_dir)))
    engine = job_engine(job.task, spec, job.subject)
    job.model = job.reference_model = None
    gc.collect()
    on_step(0.0, "starting vLLM", None)
    length, most = spec.prompt_tokens + spec.output_tokens, max(spec.concurrency)
    with running_engine(
        engine,
        job.subject.model_dir,
        max_num_seqs=most,
        max_model_len=length,
        kv_cache_bytes=kv_cache_bytes(facts, most * length),
        num_threads=job.task.num_threads,
    ) as running:

        def on_level(index: int) -> None:
            share = (1 + index) / (1 + len(spec.concurrency))
            on_step(share, f"{spec.concurrency[index]} at once", Units(index, len(spec.concurrency), "levels"))

        server = Server(HOST, running.port, running.served_name, facts.vocabulary)
        measured = measure(server, spec, seed=job.spec.seed, on_level=on_level)
        about = {"engine": "vllm", "engine_version": engine.version, "engine_device": engine.device}
        memory = {"engine_start_s": running.start_s, "memory_peak_bytes": running.memory.peak_bytes}
    write_rows(job.task.artifacts_dir, "speed.jsonl", measured.requests)
    asked = {"prompt_tokens": spec.prompt_tokens, "output_tokens": spec.output_tokens}
    thresholds = thresholds_on(job.spec.thresholds, Part.SPEED)
    every = [{f"{Part.SPEED}.{name}": value for name, value in (level | memory).items()} for level in measured.levels]
    found = worst(every, thresholds)
    job.add("speed", verdict(found, thresholds), {"levels": measured.levels} | about | memory | asked | _judged(found, thresholds))


def job_engine(task: ChildTask, spec: SpeedSpec, subject: Subject) -> EngineFacts:
    """Returns the vLLM that serves the version; raises InvalidInput if there is none or it cannot."""
    if subject.base is not None:
        raise InvalidInput(
            f"the speed of {subject.ref} cannot be measured: it is an adapter, and what is started is a whole version; "
            "measure its base, or a version that it was merged into; or leave speed out"
        )
    return check_speed(spec, subject.version, read_config(subject.model_dir), task_engine(task))


def _judged(found: Mapping[str, Any], thresholds: dict[str, float]) -> dict[str, Any]:
    return {"thresholds": thresholds, "problems": broken_thresholds(found, thresholds)}


def _within(reporter: Reporter, phase: str, begin: float, end: float) -> OnStep:
    def on_step(share: float, detail: str, units: Units | None) -> None:
        reporter.progress(phase, begin + (end - begin) * share, detail, units)

    return on_step
