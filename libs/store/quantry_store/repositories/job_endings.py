"""The ends of jobs as webhooks tell of them: ids, status and reason, and where to look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quantry_core.jobs import REASONS, JobReason, JobStatus, JobType
from quantry_core.webhooks import WebhookEvent
from quantry_store.repositories.webhook_outbox import Telling
from quantry_store.tables import JobRow


def job_endings(rows: Iterable[JobRow]) -> list[Telling]:
    """Returns what is to be told of jobs that a transaction ended."""
    return [
        Telling(
            row.project_id,
            _ending(row.status, row.reason),
            row.id,
            job_data(row.id, row.type, row.status, row.reason)
            | {
                "attempt": row.attempt or None,
                "version_id": (row.result or {}).get("version_id"),
                "pipeline_id": row.pipeline_id,
                "schedule_id": row.schedule_id,
                "labels": dict(row.labels) or None,
            },
            row.type,
            dict(row.labels),
        )
        for row in rows
    ]


def _ending(status: JobStatus, reason: JobReason | None) -> WebhookEvent:
    if status is JobStatus.SUCCEEDED:
        return WebhookEvent.JOB_SUCCEEDED
    if status is JobStatus.CANCELLED:
        return WebhookEvent.JOB_CANCELLED
    return WebhookEvent.JOB_GATE_FAILED if reason is JobReason.GATE_FAILED else WebhookEvent.JOB_FAILED


def job_data(job_id: str, type: JobType, status: JobStatus, reason: JobReason | None) -> dict[str, Any]:
    """Returns what is told of a job whatever happened to it."""
    # The words of the reason, not the job's own message: that may quote paths of a worker.
    return {
        "job_id": job_id,
        "job_type": type,
        "status": status,
        "reason": reason,
        "message": None if reason is None or reason is JobReason.COMPLETED else REASONS[reason].words,
        "path": f"/api/v1/jobs/{job_id}",
        "page": f"/jobs/{job_id}",
    }
