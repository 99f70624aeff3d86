"""Projects: the tenants, with their share of the workers and their limits."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from quantry_core.keys import NewKey
from quantry_core.names import Name


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
    is_platform: bool = Field(default=False, description="The one that the installation was made with: its admins look after the others.")
    created_at: datetime
    archived_at: datetime | None = Field(default=None, description="Since then it takes no new jobs; all it has stays.")
    limits: ProjectLimits
    num_waiting: int
    num_queued: int
    num_running: int


class ProjectRequest(BaseModel):
    """Body of ``POST /api/v1/projects``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    limits: ProjectLimits = ProjectLimits()


class ProjectChange(BaseModel):
    """Body of ``PATCH /api/v1/projects/{project}``: what is not given stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=1.0, gt=0, le=1000, description="Weight: where projects compete, running jobs go as these numbers.")
    max_queued: int | None = Field(default=None, ge=1, description="null: no bound.")
    max_running: int | None = Field(default=None, ge=1, description="null: no bound.")
    is_archived: StrictBool = Field(default=False, description="true: it takes no new jobs. false: it takes them again.")


class NewProject(BaseModel):
    """A project just made, with its first key: the only time that its secret is shown."""

    model_config = ConfigDict(frozen=True)

    project: Project
    admin_key: NewKey
