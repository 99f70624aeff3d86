"""What a job's page says in its panels: pure functions from a job to names and texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from quantry_core.evidence_tables import EvidenceTable
from quantry_core.job_evidence import metrics_beside_tables
from quantry_core.jobs import FINAL_STATUSES, DeploySpec, Estimate, Job, JobInput, JobStatus
from quantry_core.keys import Identity, Role, role_covers
from quantry_core.pipelines import PipelineDetail
from quantry_dashboard import words

RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})


class Fact(NamedTuple):
    """A name and what is known by it; ``href`` leads to more within the dashboard."""

    name: str
    text: str
    href: str | None = None


class Comparison(NamedTuple):
    """One figure: what was expected, what happened, and the second over the first."""

    figure: str
    expected: str
    happened: str
    ratio: str


def circumstances(job: Job, now: datetime) -> list[Fact]:
    """Returns when, where and how a job runs, and the jobs and plans it belongs to."""
    duration_s = words.run_duration_s(job, now)
    retries = ", ".join(f"{reason.replace('_', ' ')} ×{count}" for reason, count in job.retries.items() if count)
    limits = [
        "" if job.limits.time_s is None else words.duration_text(job.limits.time_s),
        "" if job.limits.memory_bytes is None else words.bytes_text(job.limits.memory_bytes),
    ]
    facts = [
        Fact("created", words.moment_text(job.created_at)),
        Fact("not before", words.moment_text(job.not_before) if job.not_before and job.status is JobStatus.WAITING else ""),
        Fact("started", words.moment_text(job.started_at) if job.started_at else ""),
        Fact("finished", words.moment_text(job.finished_at) if job.finished_at else ""),
        Fact("duration", words.duration_text(duration_s) if duration_s is not None else ""),
        Fact("attempt", _attempt_text(job)),
        Fact("tried again", retries),
        Fact("queue", job.queue or "", f"/jobs?queue={job.queue}" if job.queue else None),
        Fact("priority", str(job.priority)),
        Fact("limits", ", ".join(limit for limit in limits if limit)),
        Fact("worker", job.worker_id or "" if job.status is JobStatus.RUNNING else ""),
        Fact("labels", words.labels_text(job.labels)),
        Fact("forced", "works even if an identical job has made its version" if job.force else ""),
        Fact("step", job.step or ""),
        Fact("pipeline", job.pipeline_id or "", f"/pipelines/{job.pipeline_id}"),
        Fact("schedule", job.schedule_id or "", f"/schedules/{job.schedule_id}"),
        Fact("repeats", job.retry_of or "", f"/jobs/{job.retry_of}"),
        *(Fact("needs", need, f"/jobs/{need}") for need in job.needs),
    ]
    return [fact for fact in facts if fact.text]


def flattened(document: dict[str, Any], prefix: str = "") -> list[Fact]:
    """Returns a document's values by their dotted path; what is not given is left out."""
    facts: list[Fact] = []
    for name, value in document.items():
        if isinstance(value, dict):
            facts.extend(flattened(value, f"{prefix}{name}."))
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            facts.extend(flattened({f"{name}.{number}": item for number, item in enumerate(value, start=1)}, prefix))
        elif value not in (None, [], ""):
            facts.append(Fact(prefix + name, _value_text(value)))
    return facts


def spec_facts(job: Job) -> list[Fact]:
    """Returns what a job was asked to do, and what its submitter noted with it."""
    facts = [fact for fact in flattened(job.spec.model_dump(mode="json")) if fact.name != "type"]
    if isinstance(job.spec, DeploySpec):
        # Where the rollout is watched, long before the job has a result.
        facts = [fact._replace(href=f"/deployments/{fact.text}") if fact.name == "deployment" else fact for fact in facts]
    return facts + ([Fact("metadata", json.dumps(job.metadata, ensure_ascii=False))] if job.metadata else [])


def input_facts(job: Job, names: Mapping[str, str]) -> list[Fact]:
    """Returns what the spec's references were resolved to. ``names``: ``name@number`` of versions by those references."""
    return [Fact(given.role, _input_text(given, names.get(given.ref, "")), _input_address(given)) for given in job.inputs]


def _input_text(given: JobInput, name: str) -> str:
    became = given.version_id or given.dataset_id or "not made yet"
    named = f" ({name})" if name not in {"", given.ref} else ""
    return f"{became}{named}" if given.ref == became else f"{given.ref} → {became}{named}"


def _input_address(given: JobInput) -> str | None:
    """Returns where there is more of an input: what it became, else the job that will make it."""
    if given.version_id is not None:
        return f"/versions/{given.version_id}"
    if given.dataset_id is not None:
        return f"/datasets/{given.dataset_id}"
    return f"/jobs/{given.job_id}" if given.job_id else None


def pipeline_facts(pipeline: PipelineDetail) -> list[Fact]:
    """Returns when a pipeline was submitted, by which schedule, and what was noted with it."""
    facts = [
        Fact("created", words.moment_text(pipeline.created_at)),
        Fact("schedule", pipeline.schedule_id or "", f"/schedules/{pipeline.schedule_id}"),
        Fact("labels", words.labels_text(pipeline.labels)),
        Fact("metadata", json.dumps(pipeline.metadata, ensure_ascii=False) if pipeline.metadata else ""),
        Fact("all its jobs", "those tried again, too", f"/jobs?pipeline_id={pipeline.id}"),
    ]
    return [fact for fact in facts if fact.text]


def result_facts(job: Job, measured: Sequence[EvidenceTable]) -> list[Fact]:
    """Returns what a job left: its version or deployment, and its metrics, but for those that its tables show."""
    result = job.result
    if result is None:
        return []
    facts = [
        Fact("version", result.version_id or "", f"/versions/{result.version_id}"),
        Fact("reused", "made by an earlier, identical job; nothing was run" if result.reused else ""),
        Fact("deployment", result.deployment or "", f"/deployments/{result.deployment}"),
        Fact("release", result.release_id or ""),
        *flattened(metrics_beside_tables(result.metrics) if measured else result.metrics),
    ]
    return [fact for fact in facts if fact.text]


def comparisons(job: Job) -> list[Comparison]:
    """Returns the estimate's figures beside what happened. A figure that neither side knows is left out."""
    estimate, result = job.estimate, job.result
    has_run = result is not None and not result.reused
    seconds = result.seconds if result is not None and has_run else None
    happened: dict[str, float | None] = {
        "result_bytes": None,
        "peak_ram_bytes": result.peak_memory_bytes if result is not None and has_run else None,
        "peak_vram_bytes": result.peak_vram_bytes if result is not None and has_run else None,
        "minutes": None if seconds is None else seconds / 60,
    }
    ratios = result.estimate_errors if result is not None else {}
    rows = []
    for figure, label in _FIGURES.items():
        expected: float | None = getattr(estimate, figure) if estimate is not None else None
        ratio = ratios.get(figure)
        seen = happened[figure]
        if seen is None and ratio is not None and expected is not None:
            seen = expected * ratio
        if expected is not None or seen is not None:
            ratio_text = "–" if ratio is None else f"{ratio:.2f}×"
            rows.append(Comparison(label, _figure_text(figure, expected), _figure_text(figure, seen), ratio_text))
    return rows


def estimate_notes(estimate: Estimate | None) -> str:
    """Returns where an estimate comes from and what it could not tell."""
    if estimate is None:
        return ""
    jobs = "1 earlier job" if estimate.num_earlier_jobs == 1 else f"{estimate.num_earlier_jobs} earlier jobs"
    earlier = f"Corrected by {jobs} ({estimate.key})." if estimate.num_earlier_jobs else ""
    return " ".join(part for part in (earlier, *estimate.notes) if part)


def may_cancel(job: Job) -> bool:
    """Tells whether cancelling makes sense."""
    return job.status not in FINAL_STATUSES and not job.cancel_requested


def may_retry(job: Job) -> bool:
    """Tells whether repeating makes sense."""
    return job.status in RETRYABLE


def hindrance(identity: Identity) -> str | None:
    """Returns why this key may not change a job; None where it may."""
    if role_covers(identity.role, Role.OPERATOR):
        return None
    return f"Your key is a {identity.role}'s: it may look, but not change anything. Sign in with an operator's key."


_FIGURES = {
    "minutes": "wall clock",
    "peak_ram_bytes": "peak memory",
    "peak_vram_bytes": "peak device memory",
    "result_bytes": "size of the result",
}


def _figure_text(figure: str, value: float | None) -> str:
    if value is None:
        return "–"
    return words.duration_text(value * 60) if figure == "minutes" else words.bytes_text(value)


def _attempt_text(job: Job) -> str:
    if job.attempt == 0:
        return ""
    return str(job.attempt) + (f" ({job.num_lost_attempts} lost)" if job.num_lost_attempts else "")


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return words.number_text(value)
    if isinstance(value, list):
        return ", ".join(_value_text(item) for item in value)
    return str(value)
