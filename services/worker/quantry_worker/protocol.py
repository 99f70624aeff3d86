"""What the supervisor and the child process of a job say to each other.

The supervisor writes one ``ChildTask`` to a file and names the file on the child's command line. The child answers with
events, one JSON object per line, on the file descriptor whose number is in the environment variable ``EVENTS_FD_VARIABLE``.
Its last event is a ``ChildResult`` or a ``ChildFailure``; then it exits with status 0. Its standard output and standard
error are log text for people and carry no protocol.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from quantry_core.datasets import DatasetKind
from quantry_core.execution import LeasedInput
from quantry_core.jobs import InputRole, JobReason, JobSpec
from quantry_core.methods import Format
from quantry_core.versions import EvidenceDraft, VersionCard, VersionKind, VersionState

EVENTS_FD_VARIABLE = "QUANTRY_EVENTS_FD"
"""Environment variable that holds the number of the inherited, writable file descriptor for events."""

CHILD_MODULE = "quantry_worker.child"
"""Started as ``<python of the environment> -m quantry_worker.child <task.json>``."""

MAX_EVENT_BYTES = 1024 * 1024
"""Longest line, newline included, that the supervisor reads from the events descriptor."""

MAX_FAILURE_CHARS = 3000


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChildInput(_Message):
    """An input that lies on disk: a checkpoint's folder, or one with a dataset's single file. Read-only to the child."""

    role: InputRole
    id: str = Field(description="ver_... or dat_...")
    ref: str = Field(description="name@number")
    kind: VersionKind | None = Field(default=None, description="None for a dataset.")
    format: Format | None = Field(default=None, description="None for a dataset.")
    dataset_kind: DatasetKind | None = Field(default=None, description="Which file a dataset is, by quantry_core.datasets.DATASET_FILES.")
    recipe: dict[str, Any] | None = Field(default=None, description="What a version was made by; None for a dataset.")
    path: Path = Field(description="Absolute path of the folder; its files have the digests of the manifest.")


class ChildTask(_Message):
    """All that a child is told."""

    job_id: str
    attempt: int
    spec: JobSpec
    inputs: list[ChildInput]
    output_dir: Path = Field(description="Empty folder; what lies in it at the end are the version's files.")
    artifacts_dir: Path = Field(description="Empty folder; what lies in it at the end is kept as the job's artifacts: raw results.")
    checkpoints_dir: Path = Field(
        description="Empty folder; where a training job leaves checkpoints, each a folder with a name of its own."
    )
    import_roots: list[Path] = Field(description="Folders below which an import may read.")
    num_threads: int = Field(ge=1, description="CPU threads the child may use.")
    engine_python: Path | None = Field(default=None, description="Interpreter of an environment with vLLM, where this worker has one.")
    engine_script: Path | None = Field(default=None, description="services/engine/serve.py, which starts it; given with engine_python.")
    checks_with_engine: bool = Field(default=False, description="The gate has vLLM load every version that it serves.")


class ChildEventKind(StrEnum):
    PROGRESS = "progress"
    NOTE = "note"
    METRICS = "metrics"
    CHECKPOINT = "checkpoint"
    RESULT = "result"
    FAILURE = "failure"


class ChildProgress(_Message):
    """Where the child is. Fields as in quantry_core.jobs.Progress."""

    event: Literal[ChildEventKind.PROGRESS] = ChildEventKind.PROGRESS
    phase: str = Field(max_length=64)
    fraction: float = Field(ge=0, le=1, description="Of the child's own work.")
    detail: str = Field(default="", max_length=200)
    done: int | None = Field(default=None, ge=0, description="Units of this phase that are done.")
    total: int | None = Field(default=None, ge=1, description="Units of this phase in all.")
    unit: str = Field(default="", max_length=32, description="What done and total count: layers, windows, bytes.")


class ChildNote(_Message):
    """One sentence for the job's event stream, where a log line would be overlooked."""

    event: Literal[ChildEventKind.NOTE] = ChildEventKind.NOTE
    text: str = Field(max_length=2000)


class ChildMetrics(_Message):
    """Numbers of one training step or one measurement; what is not finite is left out."""

    event: Literal[ChildEventKind.METRICS] = ChildEventKind.METRICS
    step: int = Field(ge=0, description="Optimizer steps that were done.")
    values: dict[str, float] = Field(max_length=64, description="By name: loss, learning_rate, grad_norm, tokens_per_s, eval_loss.")


class ChildCheckpoint(_Message):
    """A folder of ``checkpoints_dir`` is complete and will not change: another attempt can go on from it."""

    event: Literal[ChildEventKind.CHECKPOINT] = ChildEventKind.CHECKPOINT
    step: int = Field(ge=0, description="Optimizer steps that were done.")
    folder: str = Field(
        pattern=r"^[a-z0-9-]{1,64}$", description="Its name below checkpoints_dir. Removed once it is stored, or passed over."
    )
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)


class ChildVersion(_Message):
    """What the files in ``output_dir`` are. The supervisor hashes them itself and takes the model's name from the spec and inputs."""

    kind: VersionKind
    format: Format
    scheme: str | None = None
    dtype: str | None = None
    state: VersionState = VersionState.READY
    recipe: dict[str, Any] = Field(default_factory=dict)
    toolchain: dict[str, str] = Field(default_factory=dict)
    card: VersionCard = Field(default_factory=VersionCard, description="What an import's model card says; the master's otherwise.")


class ChildResult(_Message):
    """The work is done. A version that failed its gate is reported here as quarantined, with its evidence."""

    event: Literal[ChildEventKind.RESULT] = ChildEventKind.RESULT
    version: ChildVersion | None = Field(default=None, description="None for a job that makes no version.")
    evidence: list[EvidenceDraft] = Field(default_factory=list, max_length=256)
    metrics: dict[str, Any] = Field(default_factory=dict)
    peak_vram_bytes: int | None = Field(default=None, description="Most device memory that was allocated; None without a device.")


class ChildFailure(_Message):
    """The work cannot be done: an expected reason with a sentence for the user."""

    event: Literal[ChildEventKind.FAILURE] = ChildEventKind.FAILURE
    reason: JobReason
    message: str = Field(max_length=MAX_FAILURE_CHARS)


AnyChildEvent = ChildProgress | ChildNote | ChildMetrics | ChildCheckpoint | ChildResult | ChildFailure
ChildEvent = Annotated[AnyChildEvent, Field(discriminator="event")]

_EVENT: TypeAdapter[AnyChildEvent] = TypeAdapter(ChildEvent)


def parse_event(line: bytes) -> AnyChildEvent:
    """Returns the event of one line; raises pydantic.ValidationError (a ValueError) if it is not one."""
    return _EVENT.validate_json(line)


def event_line(event: AnyChildEvent) -> bytes:
    """Returns one event as a line of JSON that ends with its only newline; raises ValueError past MAX_EVENT_BYTES."""
    line = _EVENT.dump_json(event) + b"\n"
    if len(line) > MAX_EVENT_BYTES:
        raise ValueError(f"an event has at most {MAX_EVENT_BYTES} bytes, this one has {len(line)}")
    return line


def child_input(leased: LeasedInput, path: Path) -> ChildInput:
    """Returns a leased input as the child sees it, once its files lie below ``path``."""
    return ChildInput(path=path, **leased.model_dump(exclude={"files"}))
