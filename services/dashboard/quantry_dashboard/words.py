"""How things are said on the pages: pure functions from what the API tells to text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from types import MappingProxyType

from quantry_core.ids import IdPrefix, is_id
from quantry_core.jobs import (
    FINAL_STATUSES,
    OUTPUT_PREFIX,
    REASONS,
    DeploySpec,
    EvaluateSpec,
    EventKind,
    FinetuneSpec,
    ImportSpec,
    Job,
    JobEvent,
    JobStatus,
    MergeSpec,
    Progress,
    QuantizeSpec,
    RecalibrateSpec,
    WaitingOn,
)

NO_NAMES: Mapping[str, str] = MappingProxyType({})
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

WAITING_WORDS = {
    WaitingOn.NEEDS: "for jobs it needs",
    WaitingOn.TIME: "for its time",
    WaitingOn.LIMIT: "for room in the project's queue",
    WaitingOn.ROLLOUT: "for another rollout to end",
}


def duration_text(seconds: float) -> str:
    """Returns a duration in its two largest units: 8 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    for (unit, unit_s), (smaller, smaller_s) in pairwise(_UNITS):
        if whole >= unit_s:
            rest = whole % unit_s // smaller_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def ago_text(moment: datetime, now: datetime) -> str:
    """Returns how long ago a moment was, in its largest unit. Two clocks may differ a little: below 5 s it is ``just now``."""
    seconds = (now - moment).total_seconds()
    if seconds < 5:
        return "just now"
    unit, unit_s = next((unit, unit_s) for unit, unit_s in _UNITS if seconds >= unit_s)
    return f"{int(seconds // unit_s)} {unit} ago"


def moment_text(moment: datetime) -> str:
    """Returns a moment to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def bytes_text(size_bytes: float) -> str:
    """Returns a size as people read it: 11.5 MB, decimal units."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def number_text(value: float) -> str:
    """Returns a number with four significant digits and no trailing noise."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def latency_text(seconds: float) -> str:
    """Returns how long an answer took: ``23 ms``, ``1.65 s``."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def short_id(some_id: str) -> str:
    """Returns an id that fits in a table: its prefix and its last eight characters, which are the random ones."""
    prefix, _, digits = some_id.partition("_")
    return f"{prefix}_…{digits[-8:]}" if len(digits) > 8 else some_id


def labels_text(labels: Mapping[str, str]) -> str:
    """Returns labels as they are written: ``golden stage=test``."""
    return " ".join(f"{key}={value}" if value else key for key, value in sorted(labels.items()))


def about(job: Job, names: Mapping[str, str] = NO_NAMES) -> str:
    """Returns which model or deployment a job is about, and how. ``names``: ``name@number`` of versions by how the spec refers to them."""

    def version(ref: str) -> str:
        return names.get(ref) or _version_text(ref)

    match job.spec:
        case ImportSpec(model=model):
            said = model
        case QuantizeSpec(base=base, method=method, scheme=scheme):
            said = f"{version(base)} · {method} {scheme or ''}".rstrip()
        case FinetuneSpec(model=model, method=method, training_file=training_file):
            said = f"{version(model)} · {method.type} · {training_file}"
        case MergeSpec(adapters=adapters):
            said = " + ".join(version(share.adapter) for share in adapters)
        case EvaluateSpec(version=evaluated, corpora=corpora):
            said = f"{version(evaluated)} · {', '.join(corpora)}"
        case RecalibrateSpec(serving=serving, deployment=deployment, datasets=datasets):
            said = f"{deployment or version(serving or '')} · {', '.join(datasets)}"
        case DeploySpec(deployment=deployment, version=deployed):
            said = f"{deployment} ← {version(deployed)}"
    return said


def reason_text(job: Job) -> str:
    """Returns why a job is where it is, in a few words; empty where the status says it all."""
    if job.status is JobStatus.WAITING:
        return WAITING_WORDS[job.waiting_on] if job.waiting_on else ""
    if job.cancel_requested and job.status is JobStatus.RUNNING:
        return "asked to stop"
    if job.reason is None or job.status in {JobStatus.SUCCEEDED, JobStatus.CANCELLED}:
        return "reused" if job.result is not None and job.result.reused else ""
    return job.reason.replace("_", " ")


def explanation(job: Job) -> str:
    """Returns the sentence that explains a job's status: the message it came with, or what its reason means."""
    if job.message:
        return job.message
    if job.status is JobStatus.WAITING and job.waiting_on is WaitingOn.TIME and job.not_before is not None:
        return f"It may start at {moment_text(job.not_before)}."
    if job.cancel_requested and job.status is JobStatus.RUNNING:
        return "Somebody asked for it to be cancelled; its worker is stopping it."
    return REASONS[job.reason].words if job.reason is not None else ""


def run_duration_s(job: Job, now: datetime) -> float | None:
    """Returns seconds since a job was first started, up to its end where it has ended; None before its start."""
    if job.started_at is None:
        return None
    return ((job.finished_at or now) - job.started_at).total_seconds()


def run_text(job: Job, now: datetime) -> str:
    """Returns for how long a job has run, up to its end where it has ended; a dash where it does not run and never did."""
    seconds = run_duration_s(job, now)
    has_run = seconds is not None and (job.status is JobStatus.RUNNING or job.status in FINAL_STATUSES)
    return duration_text(seconds) if has_run and seconds is not None else "–"


def counts_text(num_jobs: Mapping[JobStatus, int]) -> str:
    """Returns how many jobs are where: ``2 succeeded, 1 running``; what there is none of is left out."""
    return ", ".join(f"{num_jobs[status]} {status}" for status in JobStatus if num_jobs.get(status))


def progress_text(progress: Progress) -> str:
    """Returns phase and remaining time, for a table: ``layers · 3 min left``."""
    left = "" if progress.remaining_s is None else f"{duration_text(progress.remaining_s)} left"
    return " · ".join(part for part in (progress.phase, left) if part)


def progress_details(progress: Progress) -> str:
    """Returns all that is known of where a job is: ``quantize · layer 3 of 12 · 0.8 layers/s · 3 min left``."""
    done = "" if progress.done is None else str(progress.done)
    if done and progress.total is not None:
        done += f" of {progress.total}"
    counted = f"{done} {progress.unit}".strip()
    unit = progress.unit or "steps"
    rate = "" if progress.rate_per_s is None else f"{number_text(progress.rate_per_s)} {unit}/s"
    if progress.unit == "bytes":
        counted = (
            "" if progress.done is None else bytes_text(progress.done) + (f" of {bytes_text(progress.total)}" if progress.total else "")
        )
        rate = "" if progress.rate_per_s is None else f"{bytes_text(progress.rate_per_s)}/s"
    left = "" if progress.remaining_s is None else f"{duration_text(progress.remaining_s)} left"
    return " · ".join(part for part in (progress.phase, progress.detail, counted, rate, left) if part)


def event_text(event: JobEvent) -> str:
    """Returns an entry of the timeline."""
    if event.kind is EventKind.STATE:
        status = str(event.data.get("status", ""))
        reason = str(event.data.get("reason") or event.data.get("waiting_on") or "").replace("_", " ")
        message = str(event.data.get("message") or "")
        return status + (f" · {reason}" if reason and reason != status else "") + (f": {message}" if message else "")
    return str(event.data.get("text", ""))


def _version_text(ref: str) -> str:
    """Returns a reference to a version; one to what a job will make names that job in short, and an id stands in short too."""
    if ref.startswith(OUTPUT_PREFIX):
        return f"output of {short_id(ref.removeprefix(OUTPUT_PREFIX))}"
    return short_id(ref) if is_id(ref, IdPrefix.VERSION) else ref
