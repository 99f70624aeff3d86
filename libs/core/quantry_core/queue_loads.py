"""Queues as people look at them: what waits in each, for how long, and who works it off."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.jobs import Queue


class QueueLoad(BaseModel):
    """One queue. The jobs are those of the caller's project; for admins of the platform project, those of all projects."""

    model_config = ConfigDict(frozen=True)

    name: Queue
    object: Literal["queue"] = "queue"
    max_memory_bytes: int | None = Field(default=None, description="Of one slot: RAM for cpu, VRAM of each GPU for gpu. None: no bound.")
    num_gpus: int = Field(default=1, description="Of a queue for GPUs: how many one slot has.")
    num_waiting: int = Field(ge=0, description="For other jobs, a time, or room in the project's queue.")
    num_queued: int = Field(ge=0, description="A worker could take them now.")
    num_running: int = Field(ge=0)
    oldest_queued_s: float | None = Field(default=None, ge=0, description="Seconds that the oldest of the queued ones could be taken.")
    num_slots: int = Field(ge=0, description="Of workers that are alive and serve it; a slot that serves two queues counts at both.")
