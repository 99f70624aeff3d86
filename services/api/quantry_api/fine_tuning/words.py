"""Jobs, their events and their checkpoints in OpenAI's words. Pure."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

from quantry_api.fine_tuning.schemas import FineTuningCheckpoint, FineTuningError, FineTuningEvent, FineTuningJob
from quantry_core.jobs import REASONS, EventKind, FinetuneSpec, Job, JobCheckpoint, JobEvent, JobReason, JobStatus

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
STATUSES: dict[JobStatus, Status] = {
    # What a job waits for before it is queued has no word of its own there.
    JobStatus.WAITING: "validating_files",
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "running",
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}
METRIC_NAMES = {"loss": "train_loss", "eval_loss": "valid_loss"}
"""Numbers that OpenAI has other names for; the rest keep theirs."""
TOLD_KINDS = frozenset({EventKind.STATE, EventKind.NOTE, EventKind.METRICS})
"""Events that OpenAI's clients are told; logs and progress are at /api/v1."""
EVENT_PREFIX = "ftevent-"
CHECKPOINT_PREFIX = "ftckpt-"


def told_job(job: Job, spec: FinetuneSpec, fine_tuned_model: str | None) -> FineTuningJob:
    """Returns a job in OpenAI's words; ``fine_tuned_model`` is what was made, None where nothing was yet."""
    given = spec.hyperparameters
    multiplier = spec.learning_rate / spec.default_learning_rate
    shown: dict[str, int | float] = {
        "n_epochs": given.n_epochs,
        "batch_size": given.batch_size,
        "learning_rate_multiplier": round(multiplier, 6),
    }
    trained = None if job.result is None else job.result.metrics.get("num_trained_tokens")
    return FineTuningJob(
        id=job.id,
        created_at=_seconds(job.created_at),
        finished_at=None if job.finished_at is None else _seconds(job.finished_at),
        estimated_finish=_estimated_finish(job),
        status=STATUSES[job.status],
        error=_error(job),
        model=spec.deployment or spec.model,
        fine_tuned_model=fine_tuned_model,
        organization_id=job.project_id,
        training_file=spec.training_file,
        validation_file=spec.validation_file,
        result_files=[],
        hyperparameters=shown,
        method=_method(spec, shown),
        trained_tokens=trained if isinstance(trained, int) else None,
        seed=spec.seed,
        suffix=spec.suffix,
        metadata={name: str(value) for name, value in job.metadata.items()},
        integrations=[],
    )


def told_event(event: JobEvent) -> FineTuningEvent:
    """Returns an event in OpenAI's words; raises ValueError for one of a kind that is not told."""
    common: dict[str, Any] = {"id": event_id(event.seq), "created_at": _seconds(event.created_at)}
    match event.kind:
        case EventKind.STATE:
            level: Literal["info", "warn", "error"] = "error" if event.data.get("status") == JobStatus.FAILED else "info"
            return FineTuningEvent(**common, level=level, message=_state_words(event.data), type="message", data={})
        case EventKind.NOTE:
            return FineTuningEvent(**common, level="info", message=str(event.data.get("text", "")), type="message", data={})
        case EventKind.METRICS:
            data = told_metrics(event.data)
            figures = ", ".join(f"{name}={value:.6g}" for name, value in data.items() if name != "step" and isinstance(value, int | float))
            return FineTuningEvent(**common, level="info", message=f"Step {data.get('step')}: {figures}", type="metrics", data=data)
        case EventKind.LOG | EventKind.PROGRESS:
            raise ValueError(f"an event of kind {event.kind} is not told here")
        case _:
            assert_never(event.kind)


def told_checkpoint(checkpoint: JobCheckpoint) -> FineTuningCheckpoint:
    """Returns a checkpoint in OpenAI's words."""
    return FineTuningCheckpoint(
        id=checkpoint_id(checkpoint.step),
        created_at=_seconds(checkpoint.created_at),
        fine_tuning_job_id=checkpoint.job_id,
        fine_tuned_model_checkpoint=f"{checkpoint.job_id}:step-{checkpoint.step}",
        step_number=checkpoint.step,
        metrics={"step": float(checkpoint.step)} | told_metrics(checkpoint.metrics),
    )


def told_metrics(values: dict[str, Any]) -> dict[str, Any]:
    """Returns numbers of a step under the names that OpenAI has for them."""
    return {METRIC_NAMES.get(name, name): value for name, value in values.items()}


def request_field(field: str) -> str:
    """Returns the field of a request that a field of its job was made from: a deployment is named by ``model``."""
    name = field.removeprefix("spec.")
    return "model" if name == "deployment" else name


def event_id(seq: int) -> str:
    """Returns the id of an event; it is one of its job."""
    return f"{EVENT_PREFIX}{seq}"


def checkpoint_id(step: int) -> str:
    """Returns the id of a checkpoint; it is one of its job."""
    return f"{CHECKPOINT_PREFIX}{step}"


def _method(spec: FinetuneSpec, hyperparameters: dict[str, int | float]) -> dict[str, Any]:
    beta = getattr(spec.method, "beta", None)
    shown = hyperparameters if beta is None else hyperparameters | {"beta": beta}
    return {"type": spec.method.type.value, spec.method.type.value: {"hyperparameters": shown}}


def _error(job: Job) -> FineTuningError | None:
    if job.status is not JobStatus.FAILED:
        return None
    reason = job.reason or JobReason.INTERNAL
    return FineTuningError(code=reason.value, message=job.message or REASONS[reason].words)


def _state_words(data: dict[str, Any]) -> str:
    status, message = data.get("status"), data.get("message")
    words = f"The job is {status}." if status in {JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.WAITING} else f"The job {_ended(status)}."
    return f"{words} {message}" if message else words


def _ended(status: object) -> str:
    return "was cancelled" if status == JobStatus.CANCELLED else str(status)


def _estimated_finish(job: Job) -> int | None:
    if job.status is not JobStatus.RUNNING or job.started_at is None or job.estimate is None or job.estimate.minutes is None:
        return None
    # An estimate has no bound, and a date has one: what ends after year 9999 ends at no time that can be told.
    with suppress(OverflowError):
        return _seconds(job.started_at + timedelta(minutes=job.estimate.minutes))
    return None


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
