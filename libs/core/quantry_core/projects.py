"""Projects: the tenants, with their share of the workers and their limits."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ProjectLimits(BaseModel):
    """What a project may use. Set by whoever runs the platform, not by the project."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=1.0, gt=0, le=1000, description="Weight: where projects compete, running jobs go as these numbers.")
    max_queued: int | None = Field(default=None, ge=1, description="Jobs beyond wait until there is room. None: no bound.")
    max_running: int | None = Field(default=None, ge=1, description="Jobs beyond stay queued. None: no bound.")


class Project(BaseModel):
    """A project as the API shows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["project"] = "project"
    name: str
    limits: ProjectLimits
    num_waiting: int
    num_queued: int
    num_running: int
