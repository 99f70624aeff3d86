"""Schedules: a job or pipeline that is submitted again and again, by a cron expression in a time zone."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.jobs import JobSubmission
from quantry_core.names import Name
from quantry_core.pipelines import PipelineSubmission

NUM_NEXT_RUNS = 5
"""How many coming runs a schedule shows."""


class OverlapPolicy(StrEnum):
    """What happens when a run is due while the one before is not over."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_PREVIOUS = "cancel_previous"


class MissedPolicy(StrEnum):
    """What happens with runs that were due while no scheduler was up, or while the schedule was paused."""

    SKIP = "skip"
    RUN_ONCE = "run_once"
    RUN_ALL = "run_all"


class RunOutcome(StrEnum):
    """What became of a due time.

    fired: submitted. held: waits until the run before is over, then it is fired. skipped: the run before was not over. missed: due
    while nobody could fire it. refused: the template cannot be submitted any more.
    """

    FIRED = "fired"
    HELD = "held"
    SKIPPED = "skipped"
    MISSED = "missed"
    REFUSED = "refused"


class JobTemplate(BaseModel):
    """A single job."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["job"] = "job"
    submission: JobSubmission


class PipelineTemplate(BaseModel):
    """Several jobs."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["pipeline"] = "pipeline"
    submission: PipelineSubmission


Template = Annotated[JobTemplate | PipelineTemplate, Field(discriminator="kind")]

CronText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
TimeZoneName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ScheduleSubmission(BaseModel):
    """Body of ``POST /api/v1/schedules``."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    cron: CronText = Field(description="Five fields (minute hour day month weekday), or six with seconds first.")
    time_zone: TimeZoneName = Field(default="UTC", description="IANA name, for example Europe/Berlin.")
    template: Template
    overlap: OverlapPolicy = OverlapPolicy.SKIP
    missed: MissedPolicy = MissedPolicy.RUN_ONCE
    is_paused: bool = False


class ScheduleChange(BaseModel):
    """Body of ``PATCH /api/v1/schedules/{id}``: what is given is changed."""

    model_config = ConfigDict(extra="forbid")

    cron: CronText | None = None
    time_zone: TimeZoneName | None = None
    template: Template | None = None
    overlap: OverlapPolicy | None = None
    missed: MissedPolicy | None = None
    is_paused: bool | None = None


class SchedulePreviewRequest(BaseModel):
    """Body of ``POST /api/v1/schedules/preview``."""

    model_config = ConfigDict(extra="forbid")

    cron: CronText
    time_zone: TimeZoneName = "UTC"
    num_runs: int = Field(default=NUM_NEXT_RUNS, ge=1, le=50)


class SchedulePreview(BaseModel):
    """When a cron expression would fire."""

    model_config = ConfigDict(frozen=True)

    object: Literal["schedule_preview"] = "schedule_preview"
    cron: str
    time_zone: str
    next_runs: list[datetime] = Field(description="In the time zone that was asked for.")


class ScheduleRun(BaseModel):
    """One due time of a schedule, and what became of it."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["schedule_run"] = "schedule_run"
    schedule_id: str
    due_at: datetime = Field(description="Of the first one, where several missed ones are told of together.")
    fired_at: datetime = Field(description="When this became of it.")
    outcome: RunOutcome
    is_manual: bool = Field(default=False, description="Somebody asked for it; no cron time.")
    job_id: str | None = None
    pipeline_id: str | None = None
    message: str | None = None


class Schedule(BaseModel):
    """A schedule as the API shows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["schedule"] = "schedule"
    project_id: str
    name: str
    cron: str
    time_zone: str
    template: dict[str, Any] = Field(description="As submitted.")
    overlap: OverlapPolicy
    missed: MissedPolicy
    is_paused: bool
    next_run_at: datetime | None = Field(description="None while it is paused.")
    next_runs: list[datetime] = Field(default_factory=list, description="The next few, in the schedule's time zone; none while paused.")
    last_run: ScheduleRun | None = None
    created_at: datetime
