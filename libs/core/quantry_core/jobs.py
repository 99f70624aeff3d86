"""Jobs: types, specs, states, reasons, the one transition table, and what is shown of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.errors import IllegalTransition
from quantry_core.names import Name


class JobType(StrEnum):
    IMPORT = "import"
    QUANTIZE = "quantize"
    EVALUATE = "evaluate"
    DEPLOY = "deploy"


class JobStatus(StrEnum):
    """Where a job is. ``reason`` says why."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobReason(StrEnum):
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    INVALID_INPUT = "invalid_input"
    DEPENDENCY_FAILED = "dependency_failed"
    GATE_FAILED = "gate_failed"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    WORKER_LOST = "worker_lost"
    POISON = "poison"
    INTERNAL = "internal"


class ReasonInfo(NamedTuple):
    """What a reason leads to."""

    final_status: JobStatus
    words: str


REASONS: dict[JobReason, ReasonInfo] = {
    JobReason.COMPLETED: ReasonInfo(JobStatus.SUCCEEDED, "The job did what it was asked."),
    JobReason.CANCELLED: ReasonInfo(JobStatus.CANCELLED, "Somebody cancelled the job."),
    JobReason.INVALID_INPUT: ReasonInfo(JobStatus.FAILED, "What the job was given cannot be used; the message says why."),
    JobReason.DEPENDENCY_FAILED: ReasonInfo(JobStatus.FAILED, "A job that this one needs did not succeed."),
    JobReason.GATE_FAILED: ReasonInfo(JobStatus.FAILED, "The result did not pass its gate; it is kept as quarantined."),
    JobReason.DIVERGED: ReasonInfo(JobStatus.FAILED, "The numbers became infinite or not a number."),
    JobReason.OUT_OF_MEMORY: ReasonInfo(JobStatus.FAILED, "The job needed more memory than it may use."),
    JobReason.TIMED_OUT: ReasonInfo(JobStatus.FAILED, "The job took longer than it may."),
    JobReason.WORKER_LOST: ReasonInfo(JobStatus.FAILED, "The worker stopped answering; the job is tried again."),
    JobReason.POISON: ReasonInfo(JobStatus.FAILED, "The job lost its worker three times and is not tried again."),
    JobReason.INTERNAL: ReasonInfo(JobStatus.FAILED, "Something broke inside; the log says what."),
}

MAX_LOST_ATTEMPTS = 3

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.WAITING: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED, JobStatus.FAILED}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.QUEUED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""The one table of legal moves. running -> queued is a retry: the worker was lost or handed the job back."""

FINAL_STATUSES = frozenset(status for status, successors in TRANSITIONS.items() if not successors)


def check_transition(old: JobStatus, new: JobStatus) -> None:
    """Raises IllegalTransition unless a job may move from ``old`` to ``new``."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"a {old} job cannot become {new}")


class Queue(StrEnum):
    """Queues that workers serve. Deploy jobs are in none: the rollout controller runs them."""

    CPU = "cpu"


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


VersionRef = Annotated[str, StringConstraints(min_length=1, max_length=160)]
"""``ver_...``, ``name@3``, or ``name`` for the latest ready version of a fitting kind."""

DatasetRef = Annotated[str, StringConstraints(min_length=1, max_length=160)]
"""``dat_...``, ``name@3``, or ``name`` for the latest."""


class ImportSpec(_Spec):
    """Brings a 16-bit checkpoint into the registry as a master."""

    type: Literal[JobType.IMPORT] = JobType.IMPORT
    model: Name = Field(description="The model it becomes a version of; made if it is not there yet.")
    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="An absolute path below an allowed root, or hf:<owner>/<name>[@<revision>] for the Hugging Face hub."
    )


class CalibrationSpec(_Spec):
    """Which text a method sees to fit its rounding."""

    datasets: list[DatasetRef] = Field(min_length=1, max_length=16)
    num_samples: int = Field(default=64, ge=1, le=4096, description="Samples drawn over all datasets.")
    length_tokens: int = Field(default=256, ge=16, le=32768, description="Tokens of one sample.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class QuantizeSpec(_Spec):
    """Makes a quantized version from a 16-bit master."""

    type: Literal[JobType.QUANTIZE] = JobType.QUANTIZE
    base: VersionRef = Field(description="The master.")
    method: str = Field(default="gptq", max_length=64)
    scheme: str = Field(default="W4A16", max_length=64)
    group_size: int | None = Field(default=None, description="Weights that share one scale; the method's default where not given.")
    damping: float = Field(default=0.01, gt=0, le=1, description="Share of the mean Hessian diagonal added to it (GPTQ).")
    ignore: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field(
        default=["lm_head"], max_length=64, description="Modules kept at 16 bit: exact names, or re:<regular expression>."
    )
    calibration: CalibrationSpec


class EvaluateSpec(_Spec):
    """Measures perplexity on corpora, and closeness to a reference version where one is named."""

    type: Literal[JobType.EVALUATE] = JobType.EVALUATE
    version: VersionRef
    against: VersionRef | None = Field(default=None, description="Reference of KL and top-1 agreement; usually the master.")
    corpora: list[DatasetRef] = Field(min_length=1, max_length=16)
    window_tokens: int = Field(default=256, ge=16, le=32768, description="Length of one scored window.")
    max_windows: int | None = Field(default=None, ge=1, description="Scores only the first windows of each corpus; None scores all.")


class EngineConfig(_Spec):
    """How a replica is started. Typed and closed: no free arguments reach a command line."""

    engine: Literal["vllm"] = "vllm"
    max_model_len_tokens: int | None = Field(default=None, ge=64, le=1_048_576, description="Context length; the model's own where None.")
    kv_cache_bytes: int = Field(default=256 * 1024**2, ge=16 * 1024**2, description="Memory of one replica's KV cache.")
    max_num_seqs: int = Field(default=16, ge=1, le=1024, description="Sequences decoded together.")


class DeploySpec(_Spec):
    """Serves a version under a deployment's name, in place of what was served before."""

    type: Literal[JobType.DEPLOY] = JobType.DEPLOY
    deployment: Name
    version: VersionRef
    replicas: int = Field(default=1, ge=1, le=16)
    engine: EngineConfig = EngineConfig()
    ready_timeout_s: int = Field(default=600, ge=10, le=7200, description="Not all replicas ready by then: rolled back.")


JobSpec = Annotated[ImportSpec | QuantizeSpec | EvaluateSpec | DeploySpec, Field(discriminator="type")]

SPECS: dict[JobType, type[ImportSpec] | type[QuantizeSpec] | type[EvaluateSpec] | type[DeploySpec]] = {
    JobType.IMPORT: ImportSpec,
    JobType.QUANTIZE: QuantizeSpec,
    JobType.EVALUATE: EvaluateSpec,
    JobType.DEPLOY: DeploySpec,
}

JOB_QUEUES: dict[JobType, Queue | None] = {
    JobType.IMPORT: Queue.CPU,
    JobType.QUANTIZE: Queue.CPU,
    JobType.EVALUATE: Queue.CPU,
    JobType.DEPLOY: None,
}


class JobSubmission(BaseModel):
    """Body of ``POST /api/v1/jobs``."""

    model_config = ConfigDict(extra="forbid")

    spec: JobSpec
    priority: int = Field(default=5, ge=0, le=9, description="0 is claimed first.")


class InputRole(StrEnum):
    """What an input is to its job."""

    BASE = "base"
    SUBJECT = "subject"
    REFERENCE = "reference"
    CALIBRATION = "calibration"
    CORPUS = "corpus"


class JobInput(BaseModel):
    """A version or dataset that a job's spec named, resolved at submission so that it cannot change under the job."""

    model_config = ConfigDict(frozen=True)

    role: InputRole
    ref: str = Field(description="As written in the spec.")
    version_id: str | None = None
    dataset_id: str | None = None


class Progress(BaseModel):
    """Where a running job is."""

    model_config = ConfigDict(frozen=True)

    phase: str = Field(max_length=64)
    fraction: float = Field(ge=0, le=1, description="Of the whole attempt.")
    detail: str = Field(default="", max_length=200, description="For example: layer 3 of 6.")


class JobResult(BaseModel):
    """What a finished job leaves, beside its version and evidence."""

    model_config = ConfigDict(frozen=True)

    version_id: str | None = None
    deployment: str | None = None
    release_id: str | None = None
    seconds: float | None = Field(default=None, description="Wall-clock seconds of the last attempt, transfers included.")
    peak_memory_bytes: int | None = Field(default=None, description="Highest resident memory of the child process.")
    metrics: dict[str, Any] = Field(default_factory=dict)


class Job(BaseModel):
    """A job as the API shows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["job"] = "job"
    project_id: str
    type: JobType
    status: JobStatus
    reason: JobReason | None = None
    message: str | None = None
    spec: JobSpec
    inputs: list[JobInput] = Field(default_factory=list)
    queue: Queue | None = None
    priority: int
    attempt: int = Field(description="0 before the first claim.")
    num_lost_attempts: int
    cancel_requested: bool = False
    progress: Progress | None = None
    result: JobResult | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class EventKind(StrEnum):
    """state: the job moved. progress: where it is. log: a line its child wrote. note: the supervisor says something."""

    STATE = "state"
    PROGRESS = "progress"
    LOG = "log"
    NOTE = "note"


class JobEvent(BaseModel):
    """One entry of a job's event stream; ``seq`` grows within a job and is the SSE id."""

    model_config = ConfigDict(frozen=True)

    seq: int
    job_id: str
    attempt: int
    kind: EventKind
    data: dict[str, Any]
    created_at: datetime
