"""A job as it is submitted and as it is shown, its progress, its result and its events."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.jobs.labels import Labels, Metadata
from quantry_core.jobs.queues import Queue, Resource
from quantry_core.jobs.specs import JobSpec
from quantry_core.jobs.states import JobReason, JobStatus, JobType, WaitingOn

JobId = Annotated[str, StringConstraints(pattern=r"^job_[0-9a-f]{32}$")]

MAX_NEEDS = 64
MIN_MEMORY_LIMIT_BYTES = 16 * 1024**2
MAX_MEMORY_LIMIT_BYTES = 1024**5
"""1 PiB: no machine has more, and the column holds it."""


class JobLimits(BaseModel):
    """What one attempt may use at most; its child process is stopped beyond it. None: only the worker's own bounds hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_s: int | None = Field(default=None, ge=1, le=30 * 24 * 3600, description="Wall-clock seconds of one attempt; beyond: timed_out.")
    memory_bytes: int | None = Field(
        default=None,
        ge=MIN_MEMORY_LIMIT_BYTES,
        le=MAX_MEMORY_LIMIT_BYTES,
        description="Resident bytes of the child and all it starts; beyond: out_of_memory.",
    )


class JobOptions(BaseModel):
    """What may be said of a job beside its spec. The same for a single job and for a step of a pipeline."""

    model_config = ConfigDict(extra="forbid")

    priority: int = Field(default=5, ge=0, le=9, description="0 is claimed first.")
    resource: Resource | None = Field(default=None, description="cpu or gpu; the service's default where not given.")
    queue: Queue | None = Field(default=None, description="A queue by name; chosen by resource and estimate where not given.")
    limits: JobLimits = JobLimits()
    not_before: AwareDatetime | None = Field(default=None, description="Not started before this time.")
    labels: Labels = Field(default_factory=dict)
    metadata: Metadata = Field(default_factory=dict)
    force: bool = Field(default=False, description="Works even if an identical job has made its version already.")


class JobSubmission(JobOptions):
    """Body of ``POST /api/v1/jobs`` and of ``POST /api/v1/jobs/estimate``."""

    spec: JobSpec
    needs: list[JobId] = Field(
        default_factory=list,
        max_length=MAX_NEEDS,
        description="Jobs that must succeed first. A job whose output the spec uses (output:job_...) is needed without being named here.",
    )


class InputRole(StrEnum):
    """What an input is to its job."""

    BASE = "base"
    SUBJECT = "subject"
    REFERENCE = "reference"
    CALIBRATION = "calibration"
    CORPUS = "corpus"
    """Text that an evaluation measures on, or the quality gate of a quantize job."""
    COMPARISON = "comparison"
    """Text that a recalibrated version is compared with the serving one on."""
    TRAINING = "training"
    """Rows that a fine-tune job learns from."""
    VALIDATION = "validation"
    """Rows that were held out: a fine-tune job measures on them, a merge job judges by them."""
    ADAPTER = "adapter"
    """What a merge job merges."""
    ADAPTER_BASE = "adapter-base"
    """The version that an adapter among the inputs was trained on, found at submission: an adapter alone cannot be run."""
    CHECKPOINT = "checkpoint"
    """Where an earlier attempt got to. Comes with a lease, and is never an input of the job's own."""
    SOURCE = "source"
    """Files that an import takes in, fetched before: those of an upload or a bucket. Never an input of the job's own."""


class JobInput(BaseModel):
    """A version or dataset that a job's spec named, resolved at submission so that it cannot change under the job."""

    model_config = ConfigDict(frozen=True)

    role: InputRole
    ref: str = Field(description="As written in the spec.")
    version_id: str | None = Field(default=None, description="None for a dataset, and while the job that makes it has not succeeded.")
    dataset_id: str | None = None
    job_id: str | None = Field(default=None, description="The job whose output it is, where the spec says output:job_...")


class Progress(BaseModel):
    """Where a running job is."""

    model_config = ConfigDict(frozen=True)

    phase: str = Field(max_length=64)
    fraction: float = Field(ge=0, le=1, description="Of the whole attempt.")
    detail: str = Field(default="", max_length=200, description="For people; for example the name of a corpus.")
    done: int | None = Field(default=None, ge=0, description="Units of this phase that are done.")
    total: int | None = Field(default=None, ge=1, description="Units of this phase in all.")
    unit: str = Field(default="", max_length=32, description="What done and total count: layers, windows, bytes.")
    rate_per_s: float | None = Field(default=None, ge=0, description="Units per second of late.")
    remaining_s: float | None = Field(default=None, ge=0, description="Seconds until the attempt's end, as it looks now.")


class JobResult(BaseModel):
    """What a finished job leaves, beside its version and evidence."""

    model_config = ConfigDict(frozen=True)

    version_id: str | None = None
    deployment: str | None = None
    release_id: str | None = None
    seconds: float | None = Field(default=None, description="Wall-clock seconds of the last attempt, transfers included.")
    peak_memory_bytes: int | None = Field(default=None, description="Highest resident memory of the child process.")
    peak_vram_bytes: int | None = Field(default=None, description="Highest device memory of the child, where it has a device.")
    reused: bool = Field(default=False, description="The version is that of an earlier, identical job; nothing was run.")
    estimate_errors: dict[str, float] = Field(
        default_factory=dict,
        description="What happened over the estimate, by the estimate's figures (minutes and so on).",
    )
    metrics: dict[str, Any] = Field(default_factory=dict)


class EstimateFigures(BaseModel):
    """What a job will take. None: cannot be told beforehand."""

    model_config = ConfigDict(frozen=True)

    result_bytes: int | None = Field(default=None, description="Weights of the version it makes.")
    peak_ram_bytes: int | None = Field(default=None, description="Resident memory of the child process.")
    peak_vram_bytes: int | None = Field(default=None, description="Device memory; None on cpu.")
    minutes: float | None = Field(default=None, description="Wall clock of one attempt, transfers included.")


class Estimate(EstimateFigures):
    """Preflight of a job, corrected by how well earlier jobs of its kind were estimated."""

    object: Literal["estimate"] = "estimate"
    key: str = Field(description="What jobs are compared for a correction: type, method and resource, for example quantize/gptq/cpu.")
    queue: Queue | None = Field(default=None, description="Where the job would go.")
    uncorrected: EstimateFigures = Field(description="From the headers and the spec alone.")
    corrections: dict[str, float] = Field(default_factory=dict, description="Factor by figure, from earlier jobs; 1 where there is none.")
    num_earlier_jobs: int = Field(default=0, description="How many the corrections come from.")
    notes: list[str] = Field(default_factory=list, description="What was assumed; what could not be told, and why.")


class Job(BaseModel):
    """A job as the API shows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["job"] = "job"
    project_id: str
    type: JobType
    status: JobStatus
    reason: JobReason | None = None
    waiting_on: WaitingOn | None = Field(default=None, description="Set while it waits.")
    message: str | None = None
    spec: JobSpec
    inputs: list[JobInput] = Field(default_factory=list)
    queue: Queue | None = None
    priority: int
    limits: JobLimits = JobLimits()
    not_before: datetime | None = None
    needs: list[str] = Field(default_factory=list, description="Ids of jobs that must succeed first.")
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    force: bool = False
    pipeline_id: str | None = None
    step: str | None = Field(default=None, description="Its name in its pipeline.")
    schedule_id: str | None = None
    retry_of: str | None = Field(default=None, description="The job it repeats.")
    estimate: Estimate | None = None
    attempt: int = Field(description="0 before the first claim.")
    num_lost_attempts: int
    retries: dict[JobReason, int] = Field(default_factory=dict, description="How often each reason was tried again.")
    worker_id: str | None = Field(default=None, description="Who runs it now.")
    cancel_requested: bool = False
    progress: Progress | None = None
    result: JobResult | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class EventKind(StrEnum):
    """state: the job moved. progress: where it is. log: a line its child wrote. note: the supervisor says something.
    metrics: numbers of one training step or one measurement (loss, learning_rate, ...), by which curves are drawn."""

    STATE = "state"
    PROGRESS = "progress"
    LOG = "log"
    NOTE = "note"
    METRICS = "metrics"


class JobCheckpoint(BaseModel):
    """Where a fine-tune job got to: another attempt goes on from there."""

    model_config = ConfigDict(frozen=True)

    object: Literal["job.checkpoint"] = "job.checkpoint"
    job_id: str
    step: int = Field(ge=0, description="Optimizer steps that were done.")
    attempt: int
    size_bytes: int
    metrics: dict[str, float] = Field(default_factory=dict, description="The last that were measured by then: loss, eval_loss.")
    has_files: bool = Field(description="Its files are still kept.")
    created_at: datetime


class JobEvent(BaseModel):
    """One entry of a job's event stream; ``seq`` grows within a job and is the SSE id."""

    model_config = ConfigDict(frozen=True)

    seq: int
    job_id: str
    attempt: int
    kind: EventKind
    data: dict[str, Any]
    created_at: datetime
