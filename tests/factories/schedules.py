"""Schedules whose due times are moved by hand, and the loop's work done step by step."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from factories.store import Platform, import_spec
from quantry_core.jobs import Estimate, EstimateFigures, JobSubmission
from quantry_core.pages import MAX_LIMIT
from quantry_core.pipelines import PipelineStep, PipelineSubmission
from quantry_core.schedules import JobTemplate, PipelineTemplate, Schedule, ScheduleChange, ScheduleRun, ScheduleSubmission, Template
from quantry_store.transactions import (
    DEFAULT_PLACEMENT,
    ONLY_JOB,
    Firing,
    Placement,
    Prepared,
    change_schedule,
    create_schedule,
    fire_due,
    run_schedule_now,
)

GRACE = timedelta(seconds=60)
HOURLY = "0 * * * *"
MARGIN_S = 20.0
"""How long a test may take from making a schedule due to the end of what it looks at."""


def job_template(**changes: Any) -> JobTemplate:
    """Returns an import, which needs nothing to be there."""
    return JobTemplate(submission=JobSubmission(spec=changes.pop("spec", import_spec()), **changes))


def pipeline_template() -> PipelineTemplate:
    """Returns two imports, the second of which needs the first."""
    steps = {"first": PipelineStep(spec=import_spec("first")), "second": PipelineStep(spec=import_spec("second"), needs=["first"])}
    return PipelineTemplate(submission=PipelineSubmission(name="two", steps=steps))


def taking(minutes: float | None) -> Placement:
    """Returns the placement of a job that is thought to take so long."""
    figures = EstimateFigures(minutes=minutes)
    return Placement("cpu", Estimate(key="import/cpu", minutes=minutes, uncorrected=figures))


def prepared(template: Template, *placements: Placement, refusal: str | None = None) -> Prepared:
    """Returns a template as it was looked at; its placements are those of its steps, in their order."""
    names = list(template.submission.steps) if isinstance(template, PipelineTemplate) else [ONLY_JOB]
    chosen = placements or (DEFAULT_PLACEMENT,) * len(names)
    return Prepared(template.model_dump(mode="json"), dict(zip(names, chosen, strict=True)), refusal=refusal)


@dataclass
class Clockwork:
    """One schedule of a platform."""

    platform: Platform
    schedule: Schedule
    template: Template

    async def show(self) -> Schedule:
        async with self.platform.database.begin() as uow:
            return await uow.schedules.get(self.platform.project_id, self.schedule.id)

    async def due_since(self, hours: float = 0.0, *, seconds: float = 0.0) -> datetime:
        """Returns the schedule's next due time after moving it so far into the past, to a whole hour where hours are given."""
        unit, number = ("hour", hours) if hours else ("second", seconds)
        await self._away_from_the_hour(seconds)
        rows = await self.platform.sql(
            "update schedules set next_run_at = date_trunc(%s, now()) - %s * ('1 ' || %s)::interval where id = %s returning next_run_at",
            unit,
            number,
            unit,
            self.schedule.id,
        )
        moved: datetime = rows[0][0]
        return moved

    async def _away_from_the_hour(self, seconds: float) -> None:
        """Returns once no whole hour, when the schedule itself is due, lies in the last ``seconds`` or comes in a while."""
        while True:
            rows = await self.platform.sql("select extract(epoch from now() - date_trunc('hour', now()))::float")
            if seconds < rows[0][0] < 3600 - MARGIN_S:
                return
            await asyncio.sleep(0.5)

    async def fire(self, *, refusal: str | None = None) -> Firing | None:
        """Does what the loop does for this schedule."""
        async with self.platform.database.begin() as uow:
            looked_at = prepared(self.template, refusal=refusal)
            return await fire_due(uow, self.schedule.id, looked_at, grace=GRACE)

    async def fired(self, **how: Any) -> ScheduleRun:
        """Returns the one run that was dealt with now."""
        firing = await self.fire(**how)
        assert firing is not None
        (run,) = firing.runs
        return run

    async def change(self, **changes: Any) -> Schedule:
        change = ScheduleChange(**changes)
        self.template = change.template or self.template
        async with self.platform.database.begin() as uow:
            looked_at = prepared(self.template)
            return await change_schedule(uow, self.platform.admin, self.schedule.id, change, looked_at)

    async def run_now(self) -> ScheduleRun:
        async with self.platform.database.begin() as uow:
            run, _ = await run_schedule_now(uow, self.platform.admin, self.schedule.id, prepared(self.template))
            return run

    async def runs(self) -> list[ScheduleRun]:
        """Returns all runs, oldest first."""
        async with self.platform.database.begin() as uow:
            page = await uow.schedules.runs(self.platform.project_id, self.schedule.id, limit=MAX_LIMIT)
        return page.data[::-1]

    async def end_job(self, job_id: str | None) -> None:
        """Ends a job as if a worker had done it."""
        await self.platform.sql("update jobs set status = 'succeeded', reason = 'completed', finished_at = now() where id = %s", job_id)

    async def num_jobs(self) -> int:
        rows = await self.platform.sql("select count(*) from jobs where schedule_id = %s", self.schedule.id)
        return int(rows[0][0])


async def wind_up(platform: Platform, template: Template | None = None, *, name: str = "nightly", **changes: Any) -> Clockwork:
    """Returns a new hourly schedule, not due yet."""
    chosen = template or job_template()
    submission = ScheduleSubmission.model_validate({"name": name, "cron": HOURLY, "template": chosen, **changes})
    async with platform.database.begin() as uow:
        schedule = await create_schedule(uow, platform.admin, submission, prepared(chosen))
    return Clockwork(platform, schedule, chosen)
