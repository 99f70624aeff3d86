"""One job in words: what it is about, where it is and why."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.text import Text

from quantry.cli.estimates import print_comparison
from quantry.cli.evidence import print_tables
from quantry.cli.output import bytes_text, duration_text, print_fields, short_id, status_text, time_text
from quantry.cli.progress import progress_text
from quantry_core.evidence_tables import EvidenceTable
from quantry_core.job_evidence import metrics_beside_tables
from quantry_core.jobs import (
    OUTPUT_PREFIX,
    REASONS,
    RETRIES,
    DeploySpec,
    EvaluateSpec,
    FinetuneSpec,
    ImportSpec,
    Job,
    JobLimits,
    JobResult,
    JobStatus,
    JobType,
    MergeSpec,
    QuantizeSpec,
    RecalibrateSpec,
    WaitingOn,
    is_job_output,
)

WAITING_WORDS: dict[WaitingOn, str] = {
    WaitingOn.NEEDS: "for the jobs it needs",
    WaitingOn.TIME: "for its time",
    WaitingOn.LIMIT: "until its project has room for another queued job",
    WaitingOn.ROLLOUT: "until another rollout of its deployment is over",
}


def about(job: Job) -> str:
    """Returns what a job works on, in a few words."""
    match job.spec:
        case ImportSpec(model=model, source=source):
            return f"{model} <- {source}"
        case QuantizeSpec(base=base, method=method, scheme=scheme, group_size=group_size):
            return " ".join(part for part in (_ref(base), method, scheme, f"g{group_size}" if group_size else None) if part)
        case FinetuneSpec() | MergeSpec() as spec:
            return _about_training(spec)
        case EvaluateSpec(version=version, corpora=corpora):
            return f"{_ref(version)} on {', '.join(corpora)}"
        case RecalibrateSpec(serving=serving, deployment=deployment, datasets=datasets):
            return f"{deployment or _ref(serving or '')} on {', '.join(datasets)}"
        case DeploySpec(deployment=deployment, version=version):
            return f"{_ref(version)} as {deployment}"


def _about_training(spec: FinetuneSpec | MergeSpec) -> str:
    """Returns what is trained on what, or which adapters are merged."""
    if isinstance(spec, MergeSpec):
        return " + ".join(_ref(share.adapter) for share in spec.adapters)
    what = "all weights" if spec.adapter is None else f"{spec.adapter.kind} r{spec.adapter.rank}"
    return f"{_ref(spec.model)} on {spec.training_file} ({spec.method.type}, {what})"


def _ref(ref: str) -> str:
    """Returns what a spec calls a version, the output of a job with a short id."""
    return OUTPUT_PREFIX + short_id(ref.removeprefix(OUTPUT_PREFIX)) if is_job_output(ref) else ref


def place(job: Job) -> str:
    """Returns where a job that has not ended is: its progress, or what it waits for."""
    if job.status is JobStatus.RUNNING and job.progress is not None:
        return progress_text(job.progress)
    return waiting_text(job)


def waiting_text(job: Job) -> str:
    """Returns what a waiting job waits for; empty for another."""
    if job.status is not JobStatus.WAITING or job.waiting_on is None:
        return ""
    words = WAITING_WORDS[job.waiting_on]
    return f"{words}, {time_text(job.not_before)}" if job.waiting_on is WaitingOn.TIME and job.not_before else words


def why(job: Job) -> str:
    """Returns why a job is where it is: its message, else what its reason means; empty without a reason."""
    return job.message or (REASONS[job.reason].words if job.reason else "")


def outcome_text(job: Job) -> str:
    """Returns what a succeeded job took and left."""
    if job.result is None:
        return ""
    took = "" if job.result.seconds is None else f" in {duration_text(job.result.seconds)}"
    if job.result.reused:
        return f": {job.result.version_id}, made by an identical job before"
    if job.result.deployment is not None:
        return f"{took}: {job.result.deployment} is served"
    if job.result.version_id is not None:
        return f"{took}: {job.result.version_id}{_led_to(job.result)}"
    if job.type is JobType.MERGE:
        return f"{took}: the adapter is best left beside its quantized base; there is no new version"
    return took


def _led_to(result: JobResult) -> str:
    """Returns what followed from a version, where something did or was refused."""
    metrics = result.metrics
    if "quantize_job_id" in metrics:
        return f", being quantized by {metrics['quantize_job_id']}"
    if "quantize_refused" in metrics:
        return f", not quantized: {metrics['quantize_refused']}"
    if "adapter_name" in metrics:
        return f", served as {metrics['adapter_name']}"
    return f", not attached: {metrics['adapter_refused']}" if "adapter_refused" in metrics else ""


def print_job(job: Job, needed: Sequence[Job], measured: Sequence[EvidenceTable]) -> None:
    """Prints everything about a job. ``needed`` are the jobs that it needs, ``measured`` the tables of what it measured."""
    reason = None if job.reason is None else f"{job.reason}: {REASONS[job.reason].words}"
    step = None if job.pipeline_id is None else f"{job.step} of {job.pipeline_id}"
    print_fields(
        [
            ("job", job.id),
            ("type", job.type),
            ("status", _status(job)),
            ("reason", reason),
            ("message", job.message),
            ("progress", progress_text(job.progress) if job.progress is not None and job.status is JobStatus.RUNNING else None),
            ("attempt", f"{job.attempt} ({job.num_lost_attempts} lost)"),
            ("retries", _retries(job) or None),
            ("worker", job.worker_id),
            ("queue", job.queue),
            ("priority", str(job.priority)),
            ("limits", _limits(job.limits) or None),
            ("not before", time_text(job.not_before) or None),
            ("needs", _needs(needed)),
            ("step", step),
            ("schedule", job.schedule_id),
            ("retry of", job.retry_of),
            ("labels", ", ".join(f"{key}={value}" for key, value in sorted(job.labels.items())) or None),
            ("metadata", json.dumps(job.metadata, ensure_ascii=False) if job.metadata else None),
            ("forced", "yes" if job.force else None),
            ("created", time_text(job.created_at)),
            ("started", time_text(job.started_at) or None),
            ("finished", time_text(job.finished_at) or None),
            ("spec", job.spec.model_dump_json()),
            ("result", _result(job, measured)),
        ]
    )
    print_comparison(job)
    print_tables(measured)


def _result(job: Job, measured: Sequence[EvidenceTable]) -> str | None:
    """Returns what a job left, without what its tables say."""
    if job.result is None:
        return None
    metrics = metrics_beside_tables(job.result.metrics) if measured else job.result.metrics
    return job.result.model_copy(update={"metrics": metrics}).model_dump_json(exclude_none=True, exclude={"estimate_errors"})


def _needs(needed: Sequence[Job]) -> Text | None:
    """Returns a line for each needed job: its id, status, and step if it is one; None where there is none."""
    lines = [Text.assemble(f"{job.id} ", status_text(job.status), "" if job.step is None else f" {job.step}") for job in needed]
    return Text("\n").join(lines) if lines else None


def _status(job: Job) -> Text:
    text = status_text(job.status)
    if waiting := waiting_text(job):
        text.append(f" {waiting}", style="default")
    if job.cancel_requested and job.status is JobStatus.RUNNING:
        text.append(", asked to stop", style="default")
    return text


def _retries(job: Job) -> str:
    return ", ".join(f"{reason} {number} of {RETRIES[reason].max_retries}" for reason, number in job.retries.items())


def _limits(limits: JobLimits) -> str:
    parts = []
    if limits.time_s is not None:
        parts.append(duration_text(limits.time_s))
    if limits.memory_bytes is not None:
        parts.append(bytes_text(limits.memory_bytes))
    return ", ".join(parts)
