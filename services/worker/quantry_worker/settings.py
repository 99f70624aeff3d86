"""Settings of a worker. Read from the environment; what S3 needs is in quantry_blobs.settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from quantry_core.jobs import CPU_QUEUE, MAX_GPUS, MIN_MEMORY_LIMIT_BYTES, Queue, Resource, resource_of
from quantry_core.methods import Environment

AUTO_GPUS = "auto"


class WorkerSettings(BaseSettings):
    """``QUANTRY_CONTROL_URL`` and so on: the variable is the field's name after ``QUANTRY_``."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    control_url: str = Field(description="Origin that serves /api/v1, normally the gateway's.")
    worker_token: SecretStr = Field(description="API key with the role worker.")
    worker_token_file: Path | None = Field(
        default=None, description="File that holds worker_token, and is read again when that is refused: the host may have rotated its key."
    )
    broker_url: SecretStr = Field(description="Redis that wakes the worker: redis://:password@host:port/0.")
    work_dir: Path = Field(description="Folder for attempts and the cache of inputs. One worker per folder.")
    worker_queues: Annotated[list[Queue], NoDecode] = Field(
        default=[CPU_QUEUE], min_length=1, description="Queues served, comma-separated."
    )
    worker_slots: int = Field(default=1, ge=1, le=64, description="Jobs that run at the same time.")
    worker_gpus: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="GPUs by index or UUID, comma-separated, dealt to the slots in this order; auto asks the driver; none where empty.",
    )
    worker_gpus_per_slot: int = Field(
        default=1, ge=1, le=MAX_GPUS, description="GPUs of each slot: jobs of several processes need one for each of them."
    )
    worker_memory_bytes: int | None = Field(
        default=None, ge=MIN_MEMORY_LIMIT_BYTES, description="RAM that one slot's child may use; a share of the machine's where not given."
    )
    worker_drain_grace_s: float = Field(
        default=20.0, ge=0, description="Seconds that a running job may go on once the worker was told to stop, before it is handed back."
    )
    worker_max_idle_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds without work after which the worker ends by itself, with status 0; longer than the api's sweep interval, by "
        "which a wake may be late. None: it stays.",
    )
    worker_cache_bytes: int = Field(default=20 * 1024**3, ge=0, description="Bytes of inputs kept for later attempts; the oldest go first.")
    ml_python: Path = Field(description="Python interpreter of the ml environment.")
    gptqmodel_python: Path | None = Field(
        default=None, description="Python interpreter of the gptqmodel environment; without it this worker takes no jobs of that method."
    )
    engine_python: Path | None = Field(
        default=None, description="Python interpreter of an environment with vLLM, where this worker may use one for speed and the gate."
    )
    engine_script: Path | None = Field(default=None, description="Path of services/engine/serve.py; set together with engine_python.")
    gate_with_engine: bool = Field(
        default=False, description="The gate has vLLM load every version that it serves; takes about a minute each on a CPU."
    )
    datasets_cache: Path | None = Field(
        default=None,
        description="Folder laid out as HF_HOME is, with documents of tasks of lm-evaluation-harness. Read only; nothing is fetched.",
    )
    import_roots: Annotated[list[Path], NoDecode] = Field(
        default=[], description="Absolute folders below which an import may read, separated as in PATH."
    )
    import_buckets: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Buckets that an import may read, comma-separated: on the server of QUANTRY_IMPORT_S3_*, or else of QUANTRY_S3_*.",
    )
    hf_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("QUANTRY_HF_TOKEN", "HF_TOKEN"),
        description="For gated models of the Hugging Face hub. Reaches the child of an import from there, and nothing else.",
    )
    state_dir: Path | None = Field(default=None, description="The embedded stack's state; its leftovers are found by this variable.")
    cancel_grace_s: float = Field(default=5.0, gt=0, description="Seconds between SIGTERM and SIGKILL when a job is cancelled.")

    @field_validator("worker_queues", "worker_gpus", "import_buckets", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("worker_token_file", mode="before")
    @classmethod
    def _no_empty_path(cls, value: object) -> object:
        return value or None

    @field_validator("import_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _gpus_for_each_slot(self) -> Self:
        if self.worker_gpus != [AUTO_GPUS]:
            check_slots(self, len(self.worker_gpus))
        return self

    @model_validator(mode="after")
    def _engine_with_its_script(self) -> Self:
        if (self.engine_python is None) is not (self.engine_script is None):
            raise ValueError("an engine takes both: set QUANTRY_ENGINE_PYTHON and QUANTRY_ENGINE_SCRIPT, or neither")
        return self

    @property
    def num_threads(self) -> int:
        """CPU threads of one child: this process's cores shared by the slots."""
        return max(1, len(os.sched_getaffinity(0)) // self.worker_slots)

    @property
    def pythons(self) -> dict[Environment, Path]:
        """The interpreters of child environments that are set, whether they are there or not."""
        pythons = {Environment.ML: self.ml_python, Environment.GPTQMODEL: self.gptqmodel_python}
        return {environment: python for environment, python in pythons.items() if python is not None}

    def python_of(self, environment: Environment) -> Path:
        """Returns the interpreter of a child environment; raises KeyError for one that is not set."""
        return self.pythons[environment]


def check_slots(settings: WorkerSettings, num_gpus: int) -> None:
    """Raises ValueError unless a worker that serves a gpu queue has exactly as many GPUs as its slots together."""
    queues = [queue for queue in settings.worker_queues if resource_of(queue) is Resource.GPU]
    if queues and num_gpus != settings.worker_slots * settings.worker_gpus_per_slot:
        raise ValueError(
            f"every slot of a worker of {queues[0]} has its own GPUs: QUANTRY_WORKER_SLOTS is {settings.worker_slots}, "
            f"QUANTRY_WORKER_GPUS_PER_SLOT {settings.worker_gpus_per_slot}, and QUANTRY_WORKER_GPUS names {num_gpus}"
        )


class HealthSettings(BaseSettings):
    """The one setting that ``python -m quantry_worker.health`` needs."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    work_dir: Path = Field(description="The worker's folder.")
