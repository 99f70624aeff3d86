# Made from quantry/aio/resources/schedules.py by make_sync.py: change that file, and run this again.
"""Schedules: jobs and pipelines that are submitted again and again."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.schedules import (
    NUM_NEXT_RUNS,
    RunOutcome,
    Schedule,
    ScheduleChange,
    SchedulePreview,
    SchedulePreviewRequest,
    ScheduleRun,
    ScheduleSubmission,
)

_PATH = "/api/v1/schedules"


class Schedules:
    """``client.schedules``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, schedule: ScheduleSubmission, *, idempotency_key: str | None = None) -> Schedule:
        """Returns the new schedule.

        ``quantry.schedule_files.read_schedule`` makes a submission from a YAML file. The key works as for ``client.jobs.submit``.
        """
        return self._transport.post_once(Schedule, _PATH, schedule, idempotency_key=idempotency_key)

    def get(self, schedule_id: str) -> Schedule:
        """Returns a schedule with its next and last runs."""
        return self._transport.get(Schedule, f"{_PATH}/{path_part(schedule_id)}")

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Schedule]:
        """Returns one page of schedules, newest first."""
        return self._transport.get(Page[Schedule], _PATH, {"after": after, "limit": limit})

    def iterate(self, *, max_items: int | None = None) -> Generator[Schedule, None, None]:
        """Yields every schedule, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit), max_items)

    def change(self, schedule_id: str, **changes: Any) -> Schedule:
        """Returns the schedule after changing what is given: cron, time_zone, template, overlap, missed, is_paused.

        Raises pydantic.ValidationError for a field or value that cannot be.
        """
        return self._transport.patch(Schedule, f"{_PATH}/{path_part(schedule_id)}", ScheduleChange(**changes))

    def pause(self, schedule_id: str) -> Schedule:
        """Returns the schedule, which fires nothing until it is resumed."""
        return self.change(schedule_id, is_paused=True)

    def resume(self, schedule_id: str) -> Schedule:
        """Returns the schedule, which fires again; its missed policy says what becomes of the runs that came due meanwhile."""
        return self.change(schedule_id, is_paused=False)

    def delete(self, schedule_id: str) -> None:
        """Deletes a schedule with its list of runs; jobs and pipelines that it started stay."""
        self._transport.delete(f"{_PATH}/{path_part(schedule_id)}")

    def run(self, schedule_id: str, *, idempotency_key: str | None = None) -> ScheduleRun:
        """Runs a schedule now, beside its cron times, and returns the run."""
        return self._transport.post_once(ScheduleRun, f"{_PATH}/{path_part(schedule_id)}/run", idempotency_key=idempotency_key)

    def runs(
        self, schedule_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT, outcome: RunOutcome | None = None
    ) -> Page[ScheduleRun]:
        """Returns one page of what became of a schedule's due times, newest first."""
        parameters = {"after": after, "limit": limit, "outcome": outcome}
        return self._transport.get(Page[ScheduleRun], f"{_PATH}/{path_part(schedule_id)}/runs", parameters)

    def iterate_runs(
        self, schedule_id: str, *, max_items: int | None = None, outcome: RunOutcome | None = None
    ) -> Generator[ScheduleRun, None, None]:
        """Yields what became of each due time, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.runs(schedule_id, after=after, limit=limit, outcome=outcome), max_items)

    def preview(self, cron: str, *, time_zone: str = "UTC", num_runs: int = NUM_NEXT_RUNS) -> SchedulePreview:
        """Returns when a cron expression would fire."""
        request = SchedulePreviewRequest(cron=cron, time_zone=time_zone, num_runs=num_runs)
        return self._transport.post_again(SchedulePreview, f"{_PATH}/preview", request)
