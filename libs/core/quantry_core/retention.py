"""What is kept for how long: one table of everything that grows, and the runs that remove what is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictBool


class RetentionKind(StrEnum):
    """What can be removed because its time is over."""

    JOB_EVENTS = "job-events"
    IDEMPOTENCY_KEYS = "idempotency-keys"
    WEBHOOK_DELIVERIES = "webhook-deliveries"
    TRAFFIC_WINDOWS = "traffic-windows"
    CAPTURED_PROMPTS = "captured-prompts"
    CHECKPOINTS = "checkpoints"
    SCHEDULE_RUNS = "schedule-runs"
    WORKERS = "workers"
    AUDIT = "audit"
    QUARANTINED_BYTES = "quarantined-bytes"
    RETENTION_RUNS = "retention-runs"
    UPLOADS = "uploads"
    STAGED_ATTEMPTS = "staged-attempts"
    INCOMING = "incoming"
    RELEASED_BLOBS = "released-blobs"


class RetentionPart(StrEnum):
    """Who removes it: rows go in the api's runs, objects of the buckets in the registry's sweeps."""

    API = "api"
    REGISTRY = "registry"


class Retained(NamedTuple):
    """A line of the table."""

    kind: RetentionKind
    what: str
    counted_from: str
    setting: str | None
    """The variable that says how long; None where each thing carries its own time."""
    default_days: float | None
    part: RetentionPart = RetentionPart.API


RETAINED: Final[tuple[Retained, ...]] = (
    Retained(RetentionKind.JOB_EVENTS, "log, progress and points of curves of a job", "the end of the job", "QUANTRY_LOG_KEEP_DAYS", 30.0),
    Retained(RetentionKind.IDEMPOTENCY_KEYS, "what an Idempotency-Key made", "its first use", "QUANTRY_IDEMPOTENCY_KEEP_DAYS", 1.0),
    Retained(
        RetentionKind.WEBHOOK_DELIVERIES,
        "messages to webhooks that are over, with their attempts",
        "their end",
        "QUANTRY_WEBHOOK_KEEP_DAYS",
        30.0,
    ),
    Retained(
        RetentionKind.TRAFFIC_WINDOWS,
        "what gateways measured; that of a rollout which is not over stays",
        "the end of the window",
        "QUANTRY_TRAFFIC_KEEP_DAYS",
        30.0,
    ),
    Retained(RetentionKind.CAPTURED_PROMPTS, "captured prompts", "the time that their deployment gave each", None, None),
    Retained(
        RetentionKind.CHECKPOINTS,
        "files of checkpoints; those of a job that succeeded go at once",
        "the end of the job without success",
        "QUANTRY_CHECKPOINT_KEEP_DAYS",
        7.0,
    ),
    Retained(
        RetentionKind.SCHEDULE_RUNS,
        "what became of a due time; the newest of each schedule stays",
        "when it fired",
        "QUANTRY_SCHEDULE_RUN_KEEP_DAYS",
        365.0,
    ),
    Retained(RetentionKind.WORKERS, "a worker's row", "when it was last heard of", "QUANTRY_WORKER_KEEP_DAYS", 7.0),
    Retained(RetentionKind.AUDIT, "the beginning of each project's audit log", "when the act was written", "QUANTRY_AUDIT_KEEP_DAYS", None),
    Retained(
        RetentionKind.QUARANTINED_BYTES,
        "the bytes of a quarantined version; its row, manifest, lineage and evidence stay",
        "when it was quarantined",
        "QUANTRY_QUARANTINE_KEEP_DAYS",
        90.0,
    ),
    Retained(RetentionKind.RETENTION_RUNS, "reports of what was removed", "the end of the run", "QUANTRY_RETENTION_RUN_KEEP_DAYS", 365.0),
    Retained(RetentionKind.UPLOADS, "uploads that nobody imported", "the time that each was given", None, None, RetentionPart.REGISTRY),
    Retained(RetentionKind.STAGED_ATTEMPTS, "what an attempt staged", "the end of the attempt", None, None, RetentionPart.REGISTRY),
    Retained(RetentionKind.INCOMING, "uploads into the vault that never got a key", "their last byte", None, None, RetentionPart.REGISTRY),
    Retained(
        RetentionKind.RELEASED_BLOBS,
        "objects of the vault that only checkpoints or released versions had",
        "when nothing holds them any more",
        None,
        None,
        RetentionPart.REGISTRY,
    ),
)
"""Everything that goes by itself. What is in no line of it is kept until somebody deletes it, or for ever: KEPT_FOR_EVER."""

KEPT_FOR_EVER: Final[tuple[str, ...]] = (
    "jobs and pipelines, with the states they went through and their notes",
    "models, versions, manifests, lineage and evidence; a master's bytes in any case",
    "datasets, artifacts of jobs and the rows of checkpoints",
    "deployments, releases, rollouts and what served when",
    "the history of aliases",
    "projects, keys and worker hosts, revoked ones too",
    "runs over the vault",
)
"""What no clock removes. Deleted versions and datasets go with the collection of the vault."""

KeepDays = Mapping[RetentionKind, float | None]
"""For how many days each kind is kept; None: for ever, or for as long as each thing says itself."""

SECONDS_PER_DAY = 24 * 3600.0


class RetentionRule(BaseModel):
    """For how long one kind of thing is kept."""

    model_config = ConfigDict(frozen=True)

    kind: RetentionKind
    what: str
    counted_from: str = Field(description="From when its time is counted.")
    keep_days: float | None = Field(description="Days; None: for ever, or where has_own_time, as long as each thing says itself.")
    has_own_time: bool = Field(description="Each thing carries its own time, and no setting of retention changes it.")
    setting: str | None = Field(description="The variable that changes it.")
    part: RetentionPart


class RetentionPolicy(BaseModel):
    """Everything that is kept for a time, and what is kept for ever."""

    model_config = ConfigDict(frozen=True)

    interval_s: float = Field(description="Seconds between two runs that nobody asked for.")
    rules: list[RetentionRule]
    for_ever: list[str] = Field(description="What no clock removes.")


def policy_of(keep_days: KeepDays, interval_s: float) -> RetentionPolicy:
    """Returns the table with the days that are set."""
    rules = [
        RetentionRule(
            kind=line.kind,
            what=line.what,
            counted_from=line.counted_from,
            keep_days=keep_days.get(line.kind),
            has_own_time=line.setting is None,
            setting=line.setting,
            part=line.part,
        )
        for line in RETAINED
    ]
    return RetentionPolicy(interval_s=interval_s, rules=rules, for_ever=list(KEPT_FOR_EVER))


class RetentionRequest(BaseModel):
    """Asks for a run now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dry_run: StrictBool = Field(default=False, description="Only count what would be removed.")


class RetentionRunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RetentionCount(BaseModel):
    """What a run removed of one kind; of a dry run, what it would have."""

    model_config = ConfigDict(frozen=True)

    kind: RetentionKind
    num_removed: int = Field(description="Rows, files or objects; of quarantined bytes, versions.")
    size_bytes: int = Field(
        description="Of rows as the database stores them; of versions, what nothing else in the vault holds; of other objects, their size."
    )
    oldest_kept_at: datetime | None = Field(description="The oldest that is still there; None where there is none, or it is not known.")
    duration_s: float
    error: str | None = Field(default=None, description="Why this kind was not finished; the next run goes on with it.")


class RetentionRun(BaseModel):
    """A report: what was removed, kind by kind. Counts are of what was committed, whatever became of the process."""

    model_config = ConfigDict(frozen=True)

    id: str
    part: RetentionPart
    status: RetentionRunStatus
    dry_run: bool
    asked_by_key_id: str | None = Field(description="None where the clock asked.")
    created_at: datetime
    finished_at: datetime | None
    num_removed: int
    size_bytes: int
    counts: list[RetentionCount]


class Removed(NamedTuple):
    """What one bounded step removed."""

    num_removed: int
    size_bytes: int = 0
    has_more: bool = False
    """There may be more of it: step again."""


class Over(NamedTuple):
    """What is past its time now and would be removed."""

    num: int
    size_bytes: int = 0
