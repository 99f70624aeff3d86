"""The background loop that makes up for whatever got lost: dead workers, messages that never arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from quantry_core.errors import Unavailable
from quantry_core.jobs import Queue
from quantry_store.database import Database
from quantry_store.transactions import expired_jobs, lose_expired, queues_with_work

MAX_BACKOFF_S = 60.0

_log = structlog.get_logger(__name__)

Wake = Callable[[Queue], Awaitable[bool]]
"""Wakes a queue's workers; tells whether the message was sent and never raises."""


class Sweeper:
    """Looks every ``interval_s`` seconds for expired leases and for queues that hold work."""

    def __init__(self, database: Database, wake: Wake, *, interval_s: float) -> None:
        self._database = database
        self._wake = wake
        self._interval_s = interval_s

    async def run(self) -> None:
        """Sweeps until cancelled. A failure is logged and the next look comes later, up to MAX_BACKOFF_S seconds."""
        num_failures = 0
        while True:
            try:
                await self.sweep()
                num_failures = 0
            except Unavailable as error:
                num_failures += 1
                _log.warning("sweep.waiting_for_database", num_failures=num_failures, detail=error.detail, cause=repr(error.__cause__))
            except Exception:  # one sweep's defect must not end the loop that every lost job waits for
                num_failures += 1
                _log.exception("sweep.failed", num_failures=num_failures)
            await asyncio.sleep(backoff_s(self._interval_s, num_failures))

    async def sweep(self) -> None:
        """Puts jobs of lost workers back or ends them, then wakes every queue that holds work, whatever became of the first."""
        try:
            await self._lose_expired()
        except Exception:
            await self._wake_queues()
            raise
        await self._wake_queues()

    async def _lose_expired(self) -> None:
        async with self._database.begin() as uow:
            job_ids = await expired_jobs(uow)
        for job_id in job_ids:
            try:
                async with self._database.begin() as uow:
                    job = await lose_expired(uow, job_id)
            except Unavailable:
                raise
            except Exception:  # one job's defect must not keep back the others
                _log.exception("sweep.job_skipped", job_id=job_id)
                continue
            if job is not None:
                _log.warning("job.worker_lost", job_id=job.id, attempt=job.attempt, status=job.status, num_lost=job.num_lost_attempts)

    async def _wake_queues(self) -> None:
        async with self._database.begin() as uow:
            queues = await queues_with_work(uow)
        for queue in queues:
            await self._wake(queue)


def backoff_s(interval_s: float, num_failures: int) -> float:
    """Returns seconds until the next sweep: the interval, doubled for each failure in a row, at most MAX_BACKOFF_S."""
    # The exponent is bounded because a float overflows after a thousand failures.
    return min(interval_s * 2.0 ** min(num_failures, 16), max(interval_s, MAX_BACKOFF_S))
