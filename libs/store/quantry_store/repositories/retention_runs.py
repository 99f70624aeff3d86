"""Runs of retention: asked for, claimed by one api at a time, reported kind by kind in the transactions that removed something."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import NotFound
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import Identity
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.retention import Removed, RetentionCount, RetentionKind, RetentionPart, RetentionRun, RetentionRunStatus
from quantry_store.repositories.paging import load_page
from quantry_store.tables import ProjectRow, RetentionCountRow, RetentionRunRow

MAX_ERROR_CHARS = 500
_CLAIMS = "claims of retention runs"


class RetentionClaim(NamedTuple):
    """A run and until when it is whose. The time is what fences its writes: nobody else was given the same."""

    run_id: str
    project_id: str
    dry_run: bool
    claimed_until: datetime


class RetentionRunRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def hold_home(self) -> str | None:
        """Returns the platform's project, where runs are noted, its row locked; None if it is not to be had now, or not there yet."""
        home = select(ProjectRow.id).order_by(ProjectRow.is_platform.desc(), ProjectRow.created_at).limit(1)
        return (await self._session.scalars(home.with_for_update(key_share=True, skip_locked=True))).one_or_none()

    async def home(self) -> str | None:
        """Returns the platform's project; None before there is one."""
        home = select(ProjectRow.id).order_by(ProjectRow.is_platform.desc(), ProjectRow.created_at).limit(1)
        return (await self._session.scalars(home)).one_or_none()

    async def add(self, project_id: str, *, dry_run: bool, who: Identity | None) -> RetentionRun:
        """Returns a new run that waits for an api; ``who`` is None where the clock asked."""
        row = RetentionRunRow(
            id=new_id(IdPrefix.RETENTION_RUN),
            project_id=project_id,
            part=RetentionPart.API,
            dry_run=dry_run,
            created_by_key_id=None if who is None else who.key_id,
        )
        self._session.add(row)
        await self._session.flush()
        await self._session.refresh(row)
        return _run(row, [])

    async def add_finished(self, project_id: str, part: RetentionPart, removed: dict[RetentionKind, Removed]) -> None:
        """Notes what a sweep removed that is no run of its own."""
        run_id = new_id(IdPrefix.RETENTION_RUN)
        self._session.add(
            RetentionRunRow(id=run_id, project_id=project_id, part=part, dry_run=False, started_at=func.now(), finished_at=func.now())
        )
        await self._session.flush()
        rows = [
            {
                "run_id": run_id,
                "kind": kind,
                "project_id": project_id,
                "num_removed": gone.num_removed,
                "size_bytes": gone.size_bytes,
                "duration_ms": 0,
                "finished_at": func.now(),
            }
            for kind, gone in removed.items()
        ]
        for row in rows:
            await self._session.execute(insert(RetentionCountRow).values(row))

    async def get(self, run_id: str) -> RetentionRun:
        """Returns a run with its counts; raises NotFound."""
        row = (await self._session.scalars(select(RetentionRunRow).where(RetentionRunRow.id == run_id))).one_or_none()
        if row is None:
            raise NotFound(f"there is no run of retention {run_id!r}")
        return _run(row, (await self._counts([run_id])).get(run_id, []))

    async def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[RetentionRun]:
        """Returns a page of all runs, newest first."""
        page = await load_page(
            self._session, select(RetentionRunRow), RetentionRunRow.id, lambda row: _run(row[0], []), after=after, limit=limit
        )
        counts = await self._counts([run.id for run in page.data])
        return page.model_copy(update={"data": [_with_counts(run, counts.get(run.id, [])) for run in page.data]})

    async def is_due(self, interval_s: float) -> bool:
        """Tells whether no run that removes waits or goes on, and the last one began ``interval_s`` seconds ago."""
        recent = or_(RetentionRunRow.finished_at.is_(None), RetentionRunRow.created_at > func.now() - timedelta(seconds=interval_s))
        removes = [RetentionRunRow.part == RetentionPart.API, ~RetentionRunRow.dry_run]
        return (await self._session.scalars(select(RetentionRunRow.id).where(*removes, recent).limit(1))).one_or_none() is None

    async def claim(self, hold_s: float) -> RetentionClaim | None:
        """Returns the oldest run that nobody holds, held for ``hold_s`` seconds; None if there is none, or another goes on.

        A run whose holder died is given again: what it had got to is in its counts.
        """
        # One at a time: two runs side by side would only wait for each other's rows. Whoever comes second looks again later.
        lock = select(func.pg_try_advisory_xact_lock(func.hashtextextended(_CLAIMS, 0)))
        if not (await self._session.scalars(lock)).one():
            return None
        going_on = select(RetentionRunRow.id).where(RetentionRunRow.finished_at.is_(None), RetentionRunRow.claimed_until > func.now())
        if (await self._session.scalars(going_on.limit(1))).one_or_none() is not None:
            return None
        oldest = select(RetentionRunRow).where(RetentionRunRow.finished_at.is_(None)).order_by(RetentionRunRow.created_at).limit(1)
        row = (await self._session.scalars(oldest)).one_or_none()
        if row is None:
            return None
        values = {"started_at": func.coalesce(RetentionRunRow.started_at, func.now())}
        claimed_until = await self._write(RetentionRunRow.id == row.id, values, hold_s)
        return None if claimed_until is None else RetentionClaim(row.id, row.project_id, row.dry_run, claimed_until)

    async def renew(self, claim: RetentionClaim, hold_s: float) -> RetentionClaim | None:
        """Returns the claim, renewed, its run's row locked until the transaction ends; None if the run is not this claim's any more."""
        claimed_until = await self._write(_held(claim), {}, hold_s)
        return None if claimed_until is None else claim._replace(claimed_until=claimed_until)

    async def finished_kinds(self, run_id: str) -> Collection[RetentionKind]:
        """Returns of which kinds nothing is left to do in a run."""
        done = select(RetentionCountRow.kind).where(RetentionCountRow.run_id == run_id, RetentionCountRow.finished_at.is_not(None))
        return (await self._session.scalars(done)).all()

    async def count(self, claim: RetentionClaim, kind: RetentionKind, removed: Removed, *, duration_s: float) -> None:
        """Adds what a step removed to its run's report."""
        values = {"num_removed": removed.num_removed, "size_bytes": removed.size_bytes, "duration_ms": round(duration_s * 1000)}
        statement = insert(RetentionCountRow).values(run_id=claim.run_id, kind=kind, project_id=claim.project_id, **values)
        summed = {name: getattr(RetentionCountRow, name) + statement.excluded[name] for name in values}
        key = [RetentionCountRow.run_id, RetentionCountRow.kind]
        await self._session.execute(statement.on_conflict_do_update(index_elements=key, set_=summed))

    async def finish_kind(self, claim: RetentionClaim, kind: RetentionKind, *, oldest_kept_at: datetime | None, error: str | None) -> None:
        """Ends a kind that was counted before: there is nothing left of it, or it failed."""
        values = {"finished_at": func.now(), "oldest_kept_at": oldest_kept_at, "error": None if error is None else error[:MAX_ERROR_CHARS]}
        this = [RetentionCountRow.run_id == claim.run_id, RetentionCountRow.kind == kind]
        await self._session.execute(update(RetentionCountRow).where(*this).values(values).execution_options(synchronize_session=False))

    async def finish(self, claim: RetentionClaim) -> RetentionRun | None:
        """Ends a run and returns its report; None if it is not this claim's any more."""
        if await self._write(_held(claim), {"finished_at": func.now()}, 0.0) is None:
            return None
        self._session.expire_all()
        return await self.get(claim.run_id)

    async def last_finished(self) -> RetentionRun | None:
        """Returns the api's run that removed and ended last; None before the first."""
        ended = [RetentionRunRow.part == RetentionPart.API, ~RetentionRunRow.dry_run, RetentionRunRow.finished_at.is_not(None)]
        newest = select(RetentionRunRow.id).where(*ended).order_by(RetentionRunRow.finished_at.desc()).limit(1)
        run_id = (await self._session.scalars(newest)).one_or_none()
        return None if run_id is None else await self.get(run_id)

    async def _counts(self, run_ids: Sequence[str]) -> dict[str, builtins.list[RetentionCountRow]]:
        rows = await self._session.scalars(select(RetentionCountRow).where(RetentionCountRow.run_id.in_(run_ids)))
        counts: dict[str, builtins.list[RetentionCountRow]] = {}
        for row in rows:
            counts.setdefault(row.run_id, []).append(row)
        return counts

    async def _write(self, held: ColumnElement[bool], values: dict[str, Any], hold_s: float) -> datetime | None:
        # The clock of the moment, not of the transaction: two renewals must never be given the same time.
        until = func.clock_timestamp() + timedelta(seconds=hold_s)
        statement = update(RetentionRunRow).where(held).values(**values, claimed_until=until).returning(RetentionRunRow.claimed_until)
        return (await self._session.scalars(statement.execution_options(synchronize_session=False))).one_or_none()


def _held(claim: RetentionClaim) -> ColumnElement[bool]:
    return (RetentionRunRow.id == claim.run_id) & (RetentionRunRow.claimed_until == claim.claimed_until)


def _status(row: RetentionRunRow, counts: Sequence[RetentionCountRow]) -> RetentionRunStatus:
    if row.finished_at is None:
        return RetentionRunStatus.QUEUED if row.started_at is None else RetentionRunStatus.RUNNING
    return RetentionRunStatus.FAILED if any(count.error is not None for count in counts) else RetentionRunStatus.SUCCEEDED


_ORDER = list(RetentionKind)


def _run(row: RetentionRunRow, counts: Sequence[RetentionCountRow]) -> RetentionRun:
    run = RetentionRun(
        id=row.id,
        part=row.part,
        status=_status(row, counts),
        dry_run=row.dry_run,
        asked_by_key_id=row.created_by_key_id,
        created_at=row.created_at,
        finished_at=row.finished_at,
        num_removed=0,
        size_bytes=0,
        counts=[],
    )
    return _with_counts(run, counts)


def _with_counts(run: RetentionRun, counts: Sequence[RetentionCountRow]) -> RetentionRun:
    told = [
        RetentionCount(
            kind=row.kind,
            num_removed=row.num_removed,
            size_bytes=row.size_bytes,
            oldest_kept_at=row.oldest_kept_at,
            duration_s=row.duration_ms / 1000,
            error=row.error,
        )
        for row in sorted(counts, key=lambda row: _ORDER.index(row.kind))
    ]
    failed = run.finished_at is not None and any(count.error is not None for count in told)
    return run.model_copy(
        update={
            "counts": told,
            "num_removed": sum(count.num_removed for count in told),
            "size_bytes": sum(count.size_bytes for count in told),
            "status": RetentionRunStatus.FAILED if failed else run.status,
        }
    )
