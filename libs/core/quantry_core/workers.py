"""Workers: what a worker host says of itself, and what is shown of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.jobs import Queue
from quantry_core.methods import Environment
from quantry_core.versions import Sha256

WORKER_HELLO_INTERVAL_S = 15.0
"""How often a worker says that it is there."""

WORKER_ALIVE_S = 60.0
"""A worker that was not heard of for so long counts as gone."""

WorkerId = Annotated[str, StringConstraints(pattern=r"^wrk_[0-9a-f]{32}$")]


class Device(BaseModel):
    """A GPU as the worker sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(max_length=80, description="What CUDA_VISIBLE_DEVICES is set to for the slot that owns it.")
    name: str = Field(default="", max_length=120)
    memory_bytes: int | None = Field(default=None, ge=0)
    utilization: float | None = Field(default=None, ge=0, le=1, description="Share of the last moments in which a kernel ran.")
    memory_used_bytes: int | None = Field(default=None, ge=0, description="By whomever.")
    temperature_c: float | None = Field(default=None, description="Degrees Celsius.")
    power_w: float | None = Field(default=None, ge=0, description="What it draws.")
    num_ecc_errors: int | None = Field(
        default=None, ge=0, description="Of its memory since its driver was loaded, corrected ones included."
    )


class WorkerHello(BaseModel):
    """Body of ``PUT /api/v1/execution/workers/{id}``, sent every WORKER_HELLO_INTERVAL_S seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(max_length=128)
    pid: int
    version: str = Field(max_length=64, description="Quantry's version.")
    queues: list[Queue] = Field(min_length=1, max_length=32)
    num_slots: int = Field(ge=1, le=64)
    environments: dict[Environment, Sha256] = Field(description="Environments its children can start in, each with its toolchain digest.")
    devices: list[Device] = Field(default_factory=list, max_length=64)
    memory_bytes: int | None = Field(default=None, description="RAM that one slot's child may use.")


class Worker(WorkerHello):
    """A worker as the API shows it."""

    id: str
    object: Literal["worker"] = "worker"
    is_alive: bool
    job_ids: list[str] = Field(default_factory=list, description="What it runs now.")
    started_at: datetime
    last_seen_at: datetime
