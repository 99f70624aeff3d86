"""The background loop that fires schedules. It runs in every api replica; each due time is claimed by exactly one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import structlog

from quantry_api.sweeps import Wake, backoff_s
from quantry_core.errors import Unavailable
from quantry_core.schedules import RunOutcome
from quantry_store.database import Database
from quantry_store.repositories.schedules import MAX_DUE, MAX_FORGOTTEN, ScheduleRecord
from quantry_store.transactions import Firing, Prepared, fire_due
from quantry_telemetry.loops import Rounds, uncounted

RUNS_KEPT = timedelta(days=90)
FORGET_INTERVAL_S = 3600.0

_log = structlog.get_logger(__name__)

Prepare = Callable[[str, dict[str, Any]], Awaitable[Prepared]]
"""Looks at a stored template of a project, outside of any transaction; raises Unavailable."""


class Scheduler:
    """Looks every ``interval_s`` seconds for schedules that have something due: while the platform is up, a run is late by no more."""

    def __init__(
        self,
        database: Database,
        prepare: Prepare,
        wake: Wake,
        nudge: Callable[[], None],
        *,
        interval_s: float,
        grace_s: float,
        rounds: Rounds = uncounted,
    ) -> None:
        """``wake`` wakes the workers of a queue; ``nudge`` lets waiting jobs that may go on be looked at.

        A due time older than ``grace_s`` when somebody comes to it was missed.
        """
        self._database = database
        self._prepare = prepare
        self._wake = wake
        self._nudge = nudge
        self._rounds = rounds
        self._interval_s = interval_s
        self._grace = timedelta(seconds=grace_s)
        self._forget_at_s = 0.0

    async def run(self) -> None:
        """Fires until cancelled. A failure is logged and the next look comes later."""
        num_failures = 0
        while True:
            try:
                with self._rounds("schedules"):
                    await self.fire()
                    await self._forget_now_and_then()
                num_failures = 0
            except Unavailable as error:
                num_failures += 1
                _log.warning("schedules.waiting", num_failures=num_failures, detail=error.detail, cause=repr(error.__cause__))
            except Exception:  # one look's defect must not end the loop that every schedule waits for
                num_failures += 1
                _log.exception("schedules.failed", num_failures=num_failures)
            await asyncio.sleep(backoff_s(self._interval_s, num_failures))

    async def fire(self) -> int:
        """Returns how many runs it dealt with: everything that is due now and that no other replica is at."""
        num_runs = 0
        after = ""
        while True:
            async with self._database.begin() as uow:
                due = await uow.schedules.due(after=after)
            for schedule in due:
                firing = await self._fire_one(schedule)
                num_runs += 0 if firing is None else len(firing.runs)
            if len(due) < MAX_DUE:
                return num_runs
            after = due[-1].id

    async def _fire_one(self, schedule: ScheduleRecord) -> Firing | None:
        try:
            prepared = await self._prepare(schedule.identity.project_id, schedule.template)
            async with self._database.begin() as uow:
                firing = await fire_due(uow, schedule.id, prepared, grace=self._grace)
        except Unavailable as error:
            # What it needs may be away for this one alone, the object store for example: the others are not to wait for it.
            _log.warning("schedule.waiting", schedule_id=schedule.id, detail=error.detail, cause=repr(error.__cause__))
            return None
        except Exception:  # one schedule's defect must not keep back the others
            _log.exception("schedule.skipped", schedule_id=schedule.id)
            return None
        if firing is not None:
            await self._announce(schedule, firing)
        return firing

    async def _announce(self, schedule: ScheduleRecord, firing: Firing) -> None:
        for run in firing.runs:
            level = _log.info if run.outcome in {RunOutcome.FIRED, RunOutcome.HELD} else _log.warning
            level("schedule.due", schedule_id=schedule.id, run_id=run.id, outcome=run.outcome, detail=run.message)
        self._nudge()
        for queue in firing.queues:
            await self._wake(queue)

    async def _forget_now_and_then(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._forget_at_s:
            return
        self._forget_at_s = now_s + FORGET_INTERVAL_S
        num_forgotten = MAX_FORGOTTEN
        while num_forgotten == MAX_FORGOTTEN:
            async with self._database.begin() as uow:
                num_forgotten = await uow.schedules.forget_runs(RUNS_KEPT)
