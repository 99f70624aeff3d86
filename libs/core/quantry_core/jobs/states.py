"""Where a job is and why: types, statuses, reasons, and the one table of legal moves."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from quantry_core.errors import IllegalTransition


class JobType(StrEnum):
    IMPORT = "import"
    QUANTIZE = "quantize"
    FINETUNE = "finetune"
    MERGE = "merge"
    EVALUATE = "evaluate"
    RECALIBRATE = "recalibrate"
    DEPLOY = "deploy"


class JobStatus(StrEnum):
    """Where a job is. ``reason`` says why, and ``waiting_on`` what a waiting one waits for."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WaitingOn(StrEnum):
    """What a waiting job waits for: jobs it needs, a time, room in its project's queue, or another rollout's end."""

    NEEDS = "needs"
    TIME = "time"
    LIMIT = "limit"
    ROLLOUT = "rollout"


class JobReason(StrEnum):
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    INVALID_INPUT = "invalid_input"
    DEPENDENCY_FAILED = "dependency_failed"
    GATE_FAILED = "gate_failed"
    VERDICT_FAILED = "verdict_failed"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    WORKER_LOST = "worker_lost"
    POISON = "poison"
    INTERNAL = "internal"


class ReasonInfo(NamedTuple):
    """What a reason leads to, once it is not retried."""

    final_status: JobStatus
    words: str


REASONS: dict[JobReason, ReasonInfo] = {
    JobReason.COMPLETED: ReasonInfo(JobStatus.SUCCEEDED, "The job did what it was asked."),
    JobReason.CANCELLED: ReasonInfo(JobStatus.CANCELLED, "Somebody cancelled the job, or one that it needs."),
    JobReason.INVALID_INPUT: ReasonInfo(JobStatus.FAILED, "What the job was given cannot be used; the message says why."),
    JobReason.DEPENDENCY_FAILED: ReasonInfo(JobStatus.FAILED, "A job that this one needs did not succeed."),
    JobReason.GATE_FAILED: ReasonInfo(JobStatus.FAILED, "The result did not pass its gate; it is kept as quarantined."),
    JobReason.VERDICT_FAILED: ReasonInfo(
        JobStatus.FAILED, "What was measured of the new release was worse than allowed; it serves no more."
    ),
    JobReason.DIVERGED: ReasonInfo(JobStatus.FAILED, "The numbers became infinite or not a number."),
    JobReason.OUT_OF_MEMORY: ReasonInfo(JobStatus.FAILED, "The job needed more memory than it may use."),
    JobReason.TIMED_OUT: ReasonInfo(JobStatus.FAILED, "The job took longer than it may."),
    JobReason.WORKER_LOST: ReasonInfo(JobStatus.FAILED, "The worker stopped answering; the job is tried again."),
    JobReason.POISON: ReasonInfo(JobStatus.FAILED, "The job lost its worker three times and is not tried again."),
    JobReason.INTERNAL: ReasonInfo(JobStatus.FAILED, "Something broke inside; the log says what."),
}

FIRST_STATUSES = frozenset({JobStatus.WAITING, JobStatus.QUEUED, JobStatus.SUCCEEDED})
"""Where a job may begin. It begins as succeeded when the version it would make exists already."""

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.WAITING: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED, JobStatus.FAILED, JobStatus.SUCCEEDED}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.QUEUED, JobStatus.WAITING}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""The one table of legal moves.

waiting -> succeeded: what the job needed is there, and so is the version it would make from it. running -> queued: the worker
was lost or handed the job back. running -> waiting: tried again after a while.
"""

FINAL_STATUSES = frozenset(status for status, successors in TRANSITIONS.items() if not successors)


def check_transition(old: JobStatus, new: JobStatus) -> None:
    """Raises IllegalTransition unless a job may move from ``old`` to ``new``."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"a {old} job cannot become {new}")
