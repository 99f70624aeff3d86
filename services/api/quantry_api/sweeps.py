"""The background loop that makes up for whatever got lost: dead workers, messages that never arrived, jobs that nobody set free."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from quantry_core.errors import Unavailable
from quantry_core.jobs import JobStatus, Queue
from quantry_store.database import Database
from quantry_store.transactions import expired_jobs, lose_expired, queues_with_work, releasable_jobs, release_job
from quantry_telemetry.loops import Rounds, uncounted

MAX_BACKOFF_S = 60.0
NUDGE_INTERVAL_S = 0.05
"""Between two looks that somebody asked for: a burst of finished jobs costs twenty looks a second and no more."""
MAX_RELEASE_ROUNDS = 64
"""A job that ends in one round sets others free in the next; a pipeline is at most this deep."""
MAX_SLOTS_WOKEN = 16
"""Of a queue, in one sweep: after Redis has lost all messages, each sweep brings so many slots back to work."""

_log = structlog.get_logger(__name__)


Wake = Callable[[Queue], Awaitable[bool]]
"""Wakes one slot of a queue; tells whether the message was sent and never raises."""


class Sweeper:
    """Looks every ``interval_s`` seconds for what is to be done, and at once for waiting jobs when it is nudged."""

    def __init__(
        self,
        database: Database,
        wake: Wake,
        *,
        interval_s: float,
        rounds: Rounds = uncounted,
    ) -> None:
        """``rounds`` counts sweeps."""
        self._database = database
        self._wake = wake
        self._interval_s = interval_s
        self._rounds = rounds
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Has waiting jobs looked at now: something ended that they may have waited for. Returns at once."""
        self._nudged.set()

    async def run(self) -> None:
        """Sweeps until cancelled. A failure is logged and the next look comes later, up to MAX_BACKOFF_S seconds."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep_for_ever(), name="sweeps")
            group.create_task(self._follow_nudges(), name="nudges")

    async def sweep(self) -> None:
        """Takes every step once, each whatever became of the one before; raises the first failure at the end.

        Jobs of lost workers are put back or ended, waiting jobs that may go on are released, and queues that hold work are woken.
        """
        failures: list[Exception] = []
        for step in (self._lose_expired, self.release_waiting, self._wake_queues):
            try:
                await step()
            except Exception as error:  # one step's defect must not keep back the others
                failures.append(error)
        if failures:
            raise failures[0]

    async def release_waiting(self) -> None:
        """Releases waiting jobs that may go on, and those that this sets free, and wakes the queues they go to."""
        for _ in range(MAX_RELEASE_ROUNDS):
            async with self._database.begin() as uow:
                job_ids = await releasable_jobs(uow)
            if not await self._release(job_ids):
                return

    async def _sweep_for_ever(self) -> None:
        num_failures = 0
        while True:
            try:
                with self._rounds("sweeps"):
                    await self.sweep()
                num_failures = 0
            except Unavailable as error:
                num_failures += 1
                _log.warning("sweep.waiting_for_database", num_failures=num_failures, detail=error.detail, cause=repr(error.__cause__))
            except Exception:  # one sweep's defect must not end the loop that every lost job waits for
                num_failures += 1
                _log.exception("sweep.failed", num_failures=num_failures)
            await asyncio.sleep(backoff_s(self._interval_s, num_failures))

    async def _follow_nudges(self) -> None:
        while True:
            await self._nudged.wait()
            self._nudged.clear()
            try:
                await self.release_waiting()
            except Unavailable as error:
                _log.warning("release.waiting_for_database", detail=error.detail)
            except Exception:  # the sweep looks again, and so does the next nudge
                _log.exception("release.failed")
            await asyncio.sleep(NUDGE_INTERVAL_S)

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

    async def _release(self, job_ids: list[str]) -> int:
        """Returns how many of the jobs moved."""
        num_released = 0
        queues: dict[Queue, int] = {}
        for job_id in job_ids:
            try:
                async with self._database.begin() as uow:
                    job = await release_job(uow, job_id)
            except Unavailable:
                raise
            except Exception:  # one job's defect must not keep back the others
                _log.exception("release.job_skipped", job_id=job_id)
                continue
            if job is None:
                continue
            num_released += 1
            if job.status is JobStatus.QUEUED and job.queue is not None:
                queues[job.queue] = queues.get(job.queue, 0) + 1
        for queue, num_jobs in queues.items():
            await self._wake_slots(queue, num_jobs)
        return num_released

    async def _wake_queues(self) -> None:
        async with self._database.begin() as uow:
            queues = await queues_with_work(uow)
            counts = await uow.counts.unfinished_jobs()
        for queue in queues:
            num_jobs = sum(one.num_jobs for one in counts if (one.queue, one.status) == (queue, JobStatus.QUEUED))
            await self._wake_slots(queue, num_jobs)

    async def _wake_slots(self, queue: Queue, num_jobs: int) -> None:
        """Wakes a slot for each job, at most MAX_SLOTS_WOKEN; gives up when a message could not be sent."""
        for _ in range(min(max(num_jobs, 1), MAX_SLOTS_WOKEN)):
            if not await self._wake(queue):
                return


def backoff_s(interval_s: float, num_failures: int) -> float:
    """Returns seconds until the next sweep: the interval, doubled for each failure in a row, at most MAX_BACKOFF_S."""
    # The exponent is bounded because a float overflows after a thousand failures.
    return min(interval_s * 2.0 ** min(num_failures, 16), max(interval_s, MAX_BACKOFF_S))
