"""Messages between a worker and the execution API. Every write names its attempt and is refused once that is stale."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.datasets import DatasetKind
from quantry_core.jobs import EventKind, InputRole, Job, JobReason, Queue
from quantry_core.methods import Environment, Format
from quantry_core.traces import TRACEPARENT_CHARS
from quantry_core.versions import EvidenceDraft, ManifestFile, Sha256, VersionDraft, VersionKind
from quantry_core.workers import WorkerId

MAX_EVENTS_PER_POST = 500
WAKE_TASK = "quantry.wake"
"""Name of the Celery task that says: this queue has work."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NextRequest(_Message):
    """A slot asks for work."""

    queue: Queue
    worker_id: WorkerId = Field(description="As the worker registered itself.")
    environments: dict[Environment, Sha256] = Field(
        default_factory=dict, description="Child environments this worker can start, each with its toolchain digest."
    )


class LeasedInput(_Message):
    """An input of a leased job with everything the worker needs to fetch and check it."""

    role: InputRole
    id: str = Field(description="ver_... or dat_...")
    ref: str = Field(description="name@number")
    files: list[ManifestFile] = Field(description="A dataset is one file, named by its kind.")
    kind: VersionKind | None = None
    format: Format | None = None
    dataset_kind: DatasetKind | None = None
    recipe: dict[str, Any] | None = None


class CheckpointReport(_Message):
    """A training attempt got to a step, and what it takes to go on from there is in the vault. Refused once the attempt is stale."""

    attempt: int
    step: int = Field(ge=0, le=2**31 - 1, description="Optimizer steps that were done.")
    files: list[ManifestFile] = Field(min_length=1, max_length=256, description="Sealed already, as this attempt's checkpoint of the step.")
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)


class Lease(_Message):
    """The answer to NextRequest when there is work: this attempt, and how long it holds without a heartbeat."""

    job: Job
    attempt: int
    inputs: list[LeasedInput] = Field(description="With the newest checkpoint of the job, where there is one, as the last.")
    lease_s: float
    heartbeat_s: float
    traceparent: str | None = Field(
        default=None,
        max_length=TRACEPARENT_CHARS,
        description="The span that submitted the job (W3C Trace Context); none where traces are off.",
    )


class HeartbeatRequest(_Message):
    attempt: int


class HeartbeatReply(_Message):
    """The lease was renewed."""

    lease_s: float
    cancel_requested: bool


class EventDraft(_Message):
    kind: EventKind
    data: dict[str, Any]


class EventsRequest(_Message):
    """Events of one attempt. Sent again when the answer was lost: ``offset`` tells which of them are stored already."""

    attempt: int
    offset: int = Field(ge=0, description="How many events of this attempt were sent before these.")
    events: list[EventDraft] = Field(min_length=1, max_length=MAX_EVENTS_PER_POST)


class Outcome(StrEnum):
    """How an attempt ended.

    released: handed back unharmed (the worker is shutting down); it costs no attempt.
    lost: the child process was killed by a signal that its supervisor did not send, or the store stayed away. Counts and is
    retried exactly as an expired lease: after MAX_LOST_ATTEMPTS the job is poison.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    LOST = "lost"


class FinishRequest(_Message):
    """Ends an attempt in one fenced transaction, together with the version and the evidence it made."""

    attempt: int
    outcome: Outcome
    reason: JobReason
    message: str | None = Field(default=None, max_length=4000)
    version: VersionDraft | None = Field(default=None, description="Files must be sealed already.")
    evidence: list[EvidenceDraft] = Field(default_factory=list, max_length=256)
    artifacts: list[ManifestFile] = Field(default_factory=list, max_length=64, description="Sealed already, as artifacts.")
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    peak_vram_bytes: int | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)
