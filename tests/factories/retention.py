"""Retention as tests drive it: a kind at a time, or a whole run by the api's loop."""

from __future__ import annotations

from quantry_api.retention.loop import RetentionLoop
from quantry_api.retention.settings import RetentionSettings
from quantry_core.retention import RetentionKind, RetentionRun
from quantry_store.database import Database
from quantry_store.transactions.retention import STEPS

DAY_S = 24 * 3600.0


async def batches(database: Database, kind: RetentionKind, keep_days: float) -> list[int]:
    """Returns how much each step removed of a kind, until there was nothing left."""
    removed: list[int] = []
    while True:
        async with database.begin() as uow:
            step = await STEPS[kind].remove(uow, keep_days * DAY_S)
        if not step.has_more:
            return removed
        removed.append(step.num_removed)


async def removed(database: Database, kind: RetentionKind, keep_days: float) -> int:
    """Returns how much was removed of a kind."""
    return sum(await batches(database, kind, keep_days))


async def no_rest(_seconds: float) -> None:
    """Waits for nothing between two steps."""


def loop_of(database: Database, **days: float) -> RetentionLoop:
    """Returns the loop with these settings, ``log_keep_days`` and so on."""
    return RetentionLoop(database, RetentionSettings.model_validate(days), sleep=no_rest)


async def one_run(database: Database, project_id: str, *, dry_run: bool = False, **days: float) -> RetentionRun:
    """Returns the report of a run that was asked for and played at once."""
    async with database.begin() as uow:
        await uow.retention.runs.add(project_id, dry_run=dry_run, who=None)
    run = await loop_of(database, **days).play_next()
    assert run is not None
    return run


def counted(run: RetentionRun) -> dict[str, int]:
    """Returns how much was removed of each kind of which anything was."""
    return {count.kind.value: count.num_removed for count in run.counts if count.num_removed}
