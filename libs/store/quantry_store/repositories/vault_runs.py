"""Runs over the whole vault: asked for by people or by the clock, claimed by a registry for a while, and reported."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import Conflict, NotFound
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import Identity
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.vault import VaultRun, VaultRunKind, VaultRunStatus
from quantry_store.repositories.paging import load_page
from quantry_store.tables import ProjectRow, VaultRunRow

MAX_OPEN_RUNS = 20
"""Of a project."""


class VaultRunClaim(NamedTuple):
    """A run and until when it is whose. The time is what fences its writes: nobody else was given the same."""

    run: VaultRun
    claimed_until: datetime


class VaultRunRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, project_id: str, kind: VaultRunKind, request: dict[str, Any], *, who: Identity | None) -> VaultRun:
        """Returns a new run that waits to be claimed; ``who`` is None where the clock asked.

        Raises Conflict where the project has MAX_OPEN_RUNS that wait or go on: each reads the whole vault, and everybody's wait in line.
        """
        is_open = (VaultRunRow.project_id == project_id, VaultRunRow.finished_at.is_(None))
        num_open = (await self._session.execute(select(func.count()).select_from(VaultRunRow).where(*is_open))).scalar_one()
        if who is not None and num_open >= MAX_OPEN_RUNS:
            raise Conflict(f"{num_open} runs over the vault that this project asked for are not over: wait for one of them")
        row = VaultRunRow(
            id=new_id(IdPrefix.VAULT_RUN),
            project_id=project_id,
            kind=kind,
            status=VaultRunStatus.QUEUED,
            request=request,
            report={},
            created_by_key_id=None if who is None else who.key_id,
        )
        self._session.add(row)
        await self._session.flush()
        return _run(row)

    async def get(self, project_id: str, run_id: str) -> VaultRun:
        """Returns a run; raises NotFound."""
        statement = select(VaultRunRow).where(VaultRunRow.id == run_id, VaultRunRow.project_id == project_id)
        row = (await self._session.scalars(statement)).one_or_none()
        if row is None:
            raise NotFound(f"there is no vault run {run_id!r}")
        return _run(row)

    async def list(self, project_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[VaultRun]:
        """Returns a page of a project's runs, newest first."""
        statement = select(VaultRunRow).where(VaultRunRow.project_id == project_id)
        return await load_page(self._session, statement, VaultRunRow.id, lambda row: _run(row[0]), after=after, limit=limit)

    async def hold_home(self) -> str | None:
        """Returns the oldest project, where runs that nobody asked for are shown, its row locked; None if it is not to be had now."""
        statement = select(ProjectRow.id).order_by(ProjectRow.created_at).limit(1)
        return (await self._session.scalars(statement.with_for_update(key_share=True, skip_locked=True))).one_or_none()

    async def has_collected(self, within_s: float, *, failed_within_s: float) -> bool:
        """Tells whether a collection that removes waits or goes on, by any project, whether one that succeeded was asked for within
        ``within_s`` seconds, or one has failed within ``failed_within_s``: that one is asked for again sooner, but not at once.
        """
        removes = VaultRunRow.request.contains({"dry_run": False})
        is_recent = or_(
            VaultRunRow.finished_at.is_(None),
            (VaultRunRow.status == VaultRunStatus.SUCCEEDED) & (VaultRunRow.created_at > func.now() - timedelta(seconds=within_s)),
            (VaultRunRow.status == VaultRunStatus.FAILED) & (VaultRunRow.finished_at > func.now() - timedelta(seconds=failed_within_s)),
        )
        statement = select(VaultRunRow.id).where(VaultRunRow.kind == VaultRunKind.COLLECT, removes, is_recent).limit(1)
        return (await self._session.scalars(statement)).one_or_none() is not None

    async def claim(self, hold_s: float) -> VaultRunClaim | None:
        """Returns the oldest run that nobody holds, held for ``hold_s`` seconds; None if there is none.

        A run whose holder died is given again, with the report it had got to.
        """
        is_free = or_(VaultRunRow.claimed_until.is_(None), VaultRunRow.claimed_until < func.now())
        statement = select(VaultRunRow).where(VaultRunRow.finished_at.is_(None), is_free).order_by(VaultRunRow.created_at).limit(1)
        row = (await self._session.scalars(statement.with_for_update(skip_locked=True))).one_or_none()
        if row is None:
            return None
        values = {"status": VaultRunStatus.RUNNING, "started_at": func.coalesce(VaultRunRow.started_at, func.now())}
        claimed_until = await self._write(VaultRunRow.id == row.id, values, hold_s)
        await self._session.refresh(row)
        return None if claimed_until is None else VaultRunClaim(_run(row), claimed_until)

    async def renew(self, claim: VaultRunClaim, report: dict[str, Any], hold_s: float) -> VaultRunClaim | None:
        """Returns the claim, renewed with what was found so far; None if the run is not this claim's any more."""
        claimed_until = await self._write(_held(claim), {"report": report}, hold_s)
        return None if claimed_until is None else VaultRunClaim(claim.run, claimed_until)

    async def finish(self, claim: VaultRunClaim, status: VaultRunStatus, report: dict[str, Any], message: str | None) -> bool:
        """Ends a run; returns False if it is not this claim's any more."""
        values = {"status": status, "report": report, "message": message, "finished_at": func.now()}
        return await self._write(_held(claim), values, 0.0) is not None

    async def _write(self, held: ColumnElement[bool], values: dict[str, Any], hold_s: float) -> datetime | None:
        # The clock of the moment, not of the transaction: two renewals must never be given the same time.
        statement = update(VaultRunRow).where(held).values(**values, claimed_until=func.clock_timestamp() + timedelta(seconds=hold_s))
        found = await self._session.scalars(statement.returning(VaultRunRow.claimed_until).execution_options(synchronize_session=False))
        return found.one_or_none()


def _held(claim: VaultRunClaim) -> ColumnElement[bool]:
    return (VaultRunRow.id == claim.run.id) & (VaultRunRow.claimed_until == claim.claimed_until)


def _run(row: VaultRunRow) -> VaultRun:
    return VaultRun(
        id=row.id,
        project_id=row.project_id,
        kind=row.kind,
        status=row.status,
        request=row.request,
        report=row.report,
        message=row.message,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
