"""A job's events as they come: read from the database again and again, because the database is where they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from quantry_api.at_once import AtOnce
from quantry_core.errors import Unauthorized, Unavailable
from quantry_core.jobs import FINAL_STATUSES, EventKind, JobEvent
from quantry_store.database import Database

POLL_INTERVAL_S = 0.3
AWAY_INTERVAL_S = 2.0
"""Between two tries while the database is away."""
RECHECK_KEY_S = 5.0
MAX_EVENTS_PER_READ = 500

MAX_STREAMS_OF_KEY = 100
MAX_STREAMS = 1000
"""Open at once, of one key and of this process: each asks the database several times a second."""

_log = structlog.get_logger(__name__)


def new_streams() -> AtOnce:
    """Returns what counts the open event streams of one process."""
    return AtOnce(what="event streams", limit_each=MAX_STREAMS_OF_KEY, limit_all=MAX_STREAMS)


class JobEvents:
    """One reader of one job's events."""

    def __init__(
        self,
        database: Database,
        project_id: str,
        job_id: str,
        *,
        kinds: frozenset[EventKind],
        recheck_key: Callable[[], Awaitable[object]],
    ) -> None:
        """``kinds`` are the events that are given; ``recheck_key`` raises Unauthorized once the reader's key was revoked."""
        self._database = database
        self._project_id = project_id
        self._job_id = job_id
        self._kinds = kinds
        self._recheck_key = recheck_key

    async def after(self, seq: int) -> AsyncIterator[JobEvent]:
        """Yields every event of these kinds with a greater seq, old and new, until the job has ended and all were given.

        Goes on when the database was away for a while. Ends early when the key was revoked.
        """
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        while True:
            try:
                if loop.time() - checked_at > RECHECK_KEY_S:
                    await self._recheck_key()
                    checked_at = loop.time()
                events, is_complete, last_seq = await self._read(seq)
            except Unauthorized:
                return
            except Unavailable as error:
                _log.warning("events.waiting_for_database", job_id=self._job_id, detail=error.detail)
                await asyncio.sleep(AWAY_INTERVAL_S)
                continue
            for event in events:
                seq = event.seq
                yield event
            if is_complete:
                return
            if len(events) < MAX_EVENTS_PER_READ:
                # Everything up to there was looked at, of whatever kind.
                seq = max(seq, last_seq)
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _read(self, seq: int) -> tuple[list[JobEvent], bool, int]:
        """Returns the next events, whether they are the last there will be, and up to where there were any at all."""
        async with self._database.begin() as uow:
            # The job first: events are committed with the state they tell of, so a final state means that all are there.
            job = await uow.jobs.get(self._project_id, self._job_id)
            last_seq = await uow.events.last_seq(self._project_id, self._job_id)
            events = await uow.events.after(self._project_id, self._job_id, seq, MAX_EVENTS_PER_READ, kinds=self._kinds)
        return events, job.status in FINAL_STATUSES and len(events) < MAX_EVENTS_PER_READ, last_seq
