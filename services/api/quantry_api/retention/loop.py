"""The background loop that removes what is kept long enough. It runs in every api replica; one run goes on at a time.

A run is a row in the database, and so is what it has removed: each step is one short transaction that removes a bounded batch and
adds it to the report. A process that is killed leaves a run that another takes up where it stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from quantry_api.retention.settings import RetentionSettings
from quantry_api.sweeps import backoff_s
from quantry_core.errors import QuantryError, Unavailable
from quantry_core.retention import SECONDS_PER_DAY, RetentionKind, RetentionRun
from quantry_store.database import Database
from quantry_store.repositories.retention_runs import RetentionClaim
from quantry_store.transactions.retention import STEPS, end_retention, fail_retention, has_work, step_retention
from quantry_telemetry.loops import Rounds, uncounted

HOLD_S = 120.0
"""Longer than any statement of a step may take: a run whose api is silent for so long is taken over."""
PAUSE_S = 0.02
"""Between two steps: what writes in between is never behind more than one of them."""
MAX_TRIES, AWAY_PAUSE_S = 2, 1.0
"""How often, and after how long, a step is tried again for which the database was away."""
MAX_STEPS = 100_000
"""Of one kind in one run; what is left is for the next."""

_log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]


class RunLost(Exception):
    """The run is another api's by now: this one was away for too long, and removes nothing more."""


def _nobody(_run: RetentionRun) -> None:
    """Who hears of a run's end where nobody counts."""


class RetentionLoop:
    """Looks every ``poll_s`` seconds for a run that was asked for, and asks for one itself when ``retention_interval_s`` are over."""

    def __init__(
        self,
        database: Database,
        settings: RetentionSettings,
        *,
        poll_s: float = 5.0,
        rounds: Rounds = uncounted,
        on_end: Callable[[RetentionRun], None] = _nobody,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._database = database
        self._settings = settings
        self._poll_s = poll_s
        self._rounds = rounds
        self._on_end = on_end
        self._sleep = sleep
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Has a run that was just asked for taken up now. Returns at once."""
        self._nudged.set()

    async def run(self) -> None:
        """Plays runs until cancelled. A failure is logged and the next look comes later."""
        num_failures = 0
        while True:
            self._nudged.clear()
            try:
                with self._rounds("retention"):
                    await self.look()
                num_failures = 0
            except Unavailable as error:
                num_failures += 1
                _log.warning("retention.waiting_for_database", num_failures=num_failures, detail=error.detail)
            except Exception:  # one run's defect must not end the loop
                num_failures += 1
                _log.exception("retention.failed", num_failures=num_failures)
            try:
                await asyncio.wait_for(self._nudged.wait(), backoff_s(self._poll_s, num_failures))
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Asks for a run where one is due, and plays every run that nobody holds."""
        await self._ask_when_due()
        while await self.play_next() is not None:
            pass

    async def play_next(self) -> RetentionRun | None:
        """Plays the oldest run that nobody holds, and returns its report; None where there is none, or another api went on with it."""
        async with self._database.begin() as uow:
            claim = await uow.retention.runs.claim(HOLD_S)
            done = () if claim is None else await uow.retention.runs.finished_kinds(claim.run_id)
        if claim is None:
            return None
        keep_days = self._settings.keep_days
        try:
            for kind in (kind for kind in STEPS if kind not in done):
                days = keep_days[kind]
                keep_s = None if days is None else days * SECONDS_PER_DAY
                if has_work(kind, keep_s):
                    claim = await self._play(claim, kind, keep_s)
            async with self._database.begin() as uow:
                run = await end_retention(uow, claim)
        except RunLost:
            _log.warning("retention.lost", run_id=claim.run_id)
            return None
        if run is not None:
            self._tell(run)
        return run

    async def _play(self, claim: RetentionClaim, kind: RetentionKind, keep_s: float | None) -> RetentionClaim:
        """Returns the claim once a kind is finished or has failed; raises RunLost, or Unavailable where the database stays away."""
        num_away = 0
        try:
            for _ in range(MAX_STEPS):
                try:
                    # A round of its own: a long run must not look like a loop that hangs.
                    with self._rounds("retention"):
                        async with self._database.begin() as uow:
                            stepped = await step_retention(uow, claim, kind, keep_s, hold_s=HOLD_S)
                except Unavailable:
                    # Away, or a statement that took too long: tried again, and then reported, or no run would ever get past it.
                    num_away += 1
                    if num_away > MAX_TRIES:
                        raise
                    await self._sleep(AWAY_PAUSE_S)
                    continue
                if stepped is None:
                    raise RunLost
                claim, is_finished = stepped
                if is_finished:
                    return claim
                await self._sleep(PAUSE_S)
            error = f"there was more than {MAX_STEPS} steps remove; the next run goes on"
        except RunLost:
            raise
        except QuantryError as refused:
            error = refused.detail
        except Exception as defect:  # one kind's defect must not keep back the others
            _log.exception("retention.kind_failed", run_id=claim.run_id, kind=kind)
            error = f"{type(defect).__name__}: see the api's log"
        async with self._database.begin() as uow:
            failed = await fail_retention(uow, claim, kind, error, hold_s=HOLD_S)
        if failed is None:
            raise RunLost
        return failed

    async def _ask_when_due(self) -> None:
        async with self._database.begin() as uow:
            if not await uow.retention.runs.is_due(self._settings.retention_interval_s):
                return
            project_id = await uow.retention.runs.hold_home()
            # Looked at once more under the lock: another replica may have asked meanwhile.
            if project_id is not None and await uow.retention.runs.is_due(self._settings.retention_interval_s):
                await uow.retention.runs.add(project_id, dry_run=False, who=None)

    def _tell(self, run: RetentionRun) -> None:
        removed = {count.kind.value: count.num_removed for count in run.counts if count.num_removed}
        errors = {count.kind.value: count.error for count in run.counts if count.error is not None}
        facts = {"run_id": run.id, "dry_run": run.dry_run, "removed": removed, "size_bytes": run.size_bytes}
        if errors:
            _log.warning("retention.incomplete", **facts, errors=errors)
        elif removed:
            _log.info("retention.removed", **facts)
        self._on_end(run)
