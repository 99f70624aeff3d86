"""What is not kept for ever goes here: each kind in bounded steps, and what a step removed is reported in its own transaction."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from quantry_core.keys import Identity
from quantry_core.retention import Over, Removed, RetentionKind, RetentionRun
from quantry_store.repositories.audit import RUN_ACTION
from quantry_store.repositories.quarantined import Released
from quantry_store.repositories.retained_rows import RETAINED_ROWS, RetainedRows
from quantry_store.repositories.retention_runs import RetentionClaim
from quantry_store.unit_of_work import UnitOfWork

MAX_JOBS_PER_STEP = 20
"""A child's log may be some ten thousand lines, so few jobs at a time keep the transaction short."""

MAX_ROWS_PER_STEP = 1000
MAX_VERSIONS_PER_STEP = 5


@dataclass(frozen=True)
class RetentionStep:
    """How a kind goes. Times are in seconds; None: for ever."""

    remove: Callable[[UnitOfWork, float | None], Awaitable[Removed]]
    """Removes one bounded batch."""
    over: Callable[[UnitOfWork, float | None], Awaitable[Over]]
    """Counts all that ``remove`` would remove, batch by batch."""
    oldest_at: Callable[[UnitOfWork], Awaitable[datetime | None]]
    runs_for_ever: bool = False
    """There is something to do though nothing says how long: things with a time of their own."""


async def ask_retention(uow: UnitOfWork, who: Identity, *, dry_run: bool) -> RetentionRun:
    """Returns the run that an api takes up next: what removes, or only counts."""
    run = await uow.retention.runs.add(who.project_id, dry_run=dry_run, who=who)
    await uow.audit.record(who, "retention.ask", "retention_run", run.id, {"dry_run": dry_run})
    return run


async def step_retention(
    uow: UnitOfWork, claim: RetentionClaim, kind: RetentionKind, keep_s: float | None, *, hold_s: float
) -> tuple[RetentionClaim, bool] | None:
    """Removes one bounded batch of a kind, or counts all of it in a dry run, and reports it in the same transaction.

    Returns the renewed claim and whether the kind is finished; None where the run is another's by now, and nothing was removed.
    """
    step, began_s = STEPS[kind], time.monotonic()
    renewed = await uow.retention.runs.renew(claim, hold_s)
    if renewed is None:
        return None
    if claim.dry_run:
        over = await step.over(uow, keep_s)
        removed = Removed(over.num, over.size_bytes)
    else:
        removed = await step.remove(uow, keep_s)
    await uow.retention.runs.count(renewed, kind, removed, duration_s=time.monotonic() - began_s)
    if not removed.has_more:
        await uow.retention.runs.finish_kind(renewed, kind, oldest_kept_at=await step.oldest_at(uow), error=None)
    return renewed, not removed.has_more


async def fail_retention(
    uow: UnitOfWork, claim: RetentionClaim, kind: RetentionKind, error: str, *, hold_s: float
) -> RetentionClaim | None:
    """Notes why a kind could not be finished, so that the run goes on with the next one; None where it is another's by now."""
    renewed = await uow.retention.runs.renew(claim, hold_s)
    if renewed is None:
        return None
    await uow.retention.runs.count(renewed, kind, Removed(0), duration_s=0.0)
    await uow.retention.runs.finish_kind(renewed, kind, oldest_kept_at=None, error=error)
    return renewed


async def end_retention(uow: UnitOfWork, claim: RetentionClaim) -> RetentionRun | None:
    """Ends a run and returns its report; None where it is another's by now. One that removed something is told in the audit log."""
    run = await uow.retention.runs.finish(claim)
    if run is not None and run.num_removed and not run.dry_run:
        told = {count.kind.value: count.num_removed for count in run.counts if count.num_removed}
        facts = {"removed": told, "size_bytes": run.size_bytes}
        await uow.audit.record(None, RUN_ACTION, "retention_run", run.id, facts, project_id=claim.project_id)
    return run


def has_work(kind: RetentionKind, keep_s: float | None) -> bool:
    """Tells whether there is anything to remove of a kind that is kept so long."""
    return keep_s is not None or STEPS[kind].runs_for_ever


def _of_rows(rows: RetainedRows, *, own_time: bool = False) -> RetentionStep:
    """Returns how rows of a table go that are deleted as they are."""

    async def remove(uow: UnitOfWork, keep_s: float | None) -> Removed:
        return await uow.retention.rows.delete(rows, keep_s or 0.0, limit=MAX_ROWS_PER_STEP)

    async def over(uow: UnitOfWork, keep_s: float | None) -> Over:
        return await uow.retention.rows.over(rows, keep_s or 0.0)

    async def oldest_at(uow: UnitOfWork) -> datetime | None:
        return await uow.retention.rows.oldest_at(rows)

    return RetentionStep(remove, over, oldest_at, runs_for_ever=own_time)


async def _remove_logs(uow: UnitOfWork, keep_s: float | None) -> Removed:
    return await uow.events.delete_logs(_known(keep_s), max_jobs=MAX_JOBS_PER_STEP)


async def _old_logs(uow: UnitOfWork, keep_s: float | None) -> Over:
    return await uow.events.old_logs(_known(keep_s))


async def _remove_checkpoints(uow: UnitOfWork, keep_s: float | None) -> Removed:
    return await uow.checkpoints.drop_old(keep_s, max_jobs=MAX_JOBS_PER_STEP)


async def _cut_audit(uow: UnitOfWork, keep_s: float | None) -> Removed:
    """Cuts the chain of the first project that has something to cut: one project in a transaction, as its chain's end is locked."""
    before = await uow.now() - timedelta(seconds=_known(keep_s))
    for project_id in await uow.audit.project_ids():
        num_removed = await uow.audit.cut(project_id, before, limit=MAX_ROWS_PER_STEP)
        if num_removed:
            return Removed(num_removed, has_more=True)
    return Removed(0)


async def _old_audit(uow: UnitOfWork, keep_s: float | None) -> Over:
    return Over(*await uow.audit.old(await uow.now() - timedelta(seconds=_known(keep_s))))


async def _release_bytes(uow: UnitOfWork, keep_s: float | None) -> Removed:
    released = await uow.retention.quarantined.release(_known(keep_s), limit=MAX_VERSIONS_PER_STEP)
    for one in released:
        await _tell(uow, one)
    return Removed(len(released), sum(one.size_bytes for one in released), has_more=bool(released))


async def _tell(uow: UnitOfWork, released: Released) -> None:
    version = released.version
    facts = {"ref": version.ref, "digest": version.manifest_digest, "num_files": released.num_files, "size_bytes": released.size_bytes}
    await uow.audit.record(None, "version.release_bytes", "version", version.id, facts, project_id=version.project_id)


async def _old_quarantined(uow: UnitOfWork, keep_s: float | None) -> Over:
    return await uow.retention.quarantined.over(_known(keep_s))


def _known(keep_s: float | None) -> float:
    """Returns the seconds of a kind that has some: one that is kept for ever is not asked for."""
    if keep_s is None:
        raise ValueError("what is kept for ever has no step")
    return keep_s


STEPS: Final[Mapping[RetentionKind, RetentionStep]] = {
    RetentionKind.JOB_EVENTS: RetentionStep(_remove_logs, _old_logs, lambda uow: uow.events.oldest_log_at()),
    RetentionKind.IDEMPOTENCY_KEYS: _of_rows(RETAINED_ROWS[RetentionKind.IDEMPOTENCY_KEYS]),
    RetentionKind.WEBHOOK_DELIVERIES: _of_rows(RETAINED_ROWS[RetentionKind.WEBHOOK_DELIVERIES]),
    RetentionKind.TRAFFIC_WINDOWS: _of_rows(RETAINED_ROWS[RetentionKind.TRAFFIC_WINDOWS]),
    RetentionKind.CAPTURED_PROMPTS: _of_rows(RETAINED_ROWS[RetentionKind.CAPTURED_PROMPTS], own_time=True),
    RetentionKind.CHECKPOINTS: RetentionStep(
        _remove_checkpoints,
        lambda uow, keep_s: uow.checkpoints.old_files(keep_s),
        lambda uow: uow.checkpoints.oldest_kept_at(),
        runs_for_ever=True,
    ),
    RetentionKind.SCHEDULE_RUNS: _of_rows(RETAINED_ROWS[RetentionKind.SCHEDULE_RUNS]),
    RetentionKind.WORKERS: _of_rows(RETAINED_ROWS[RetentionKind.WORKERS]),
    RetentionKind.AUDIT: RetentionStep(_cut_audit, _old_audit, lambda uow: uow.audit.oldest_at()),
    RetentionKind.QUARANTINED_BYTES: RetentionStep(_release_bytes, _old_quarantined, lambda uow: uow.retention.quarantined.oldest_at()),
    RetentionKind.RETENTION_RUNS: _of_rows(RETAINED_ROWS[RetentionKind.RETENTION_RUNS]),
}
"""How each kind that the api removes goes, in this order."""
