# Made from quantry/aio/resources/retention.py by make_sync.py: change that file, and run this again.
"""Retention: what is kept for how long, and what was removed."""

from __future__ import annotations

from collections.abc import Generator

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.retention import RetentionPolicy, RetentionRequest, RetentionRun

_PATH = "/api/v1/retention"


class Retention:
    """``client.retention``. All but the policy is for admins of the platform project."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def policy(self) -> RetentionPolicy:
        """Returns what is kept for how long, and what is kept for ever."""
        return self._transport.get(RetentionPolicy, _PATH)

    def run(self, *, dry_run: bool = True) -> RetentionRun:
        """Returns a new run, which goes on after the answer: it removes what is over, or only counts it."""
        return self._transport.post(RetentionRun, f"{_PATH}/run", RetentionRequest(dry_run=dry_run))

    def get(self, run_id: str) -> RetentionRun:
        """Returns a run: how far it is, or what it removed."""
        return self._transport.get(RetentionRun, f"{_PATH}/runs/{path_part(run_id)}")

    def runs(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[RetentionRun]:
        """Returns one page of runs, newest first."""
        return self._transport.get(Page[RetentionRun], f"{_PATH}/runs", {"after": after, "limit": limit})

    def iterate_runs(self, *, max_items: int | None = None) -> Generator[RetentionRun, None, None]:
        """Yields every run, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.runs(after=after, limit=limit), max_items)

    def wait(self, run_id: str, *, poll_s: float = 1.0) -> RetentionRun:
        """Returns a run once it has ended."""
        while (run := self.get(run_id)).finished_at is None:
            self._transport.sleep(poll_s)
        return run
