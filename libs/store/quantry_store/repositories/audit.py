"""The audit log: written in the transaction it tells of, chained at its end, read newest first."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.audit import (
    GENESIS_HASH,
    AuditAnchor,
    AuditBreak,
    AuditEntry,
    AuditFilter,
    AuditVerification,
    chained_hash,
    find_break,
)
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import Identity
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_store.repositories.paging import load_page
from quantry_store.tables import AuditAnchorRow, AuditChainRow, AuditRow
from quantry_store.tables.base import storable_json, storable_text, stored_size

CUT_ACTION = "audit.cut"
"""What retention writes when it removes a prefix: an anchor that no such entry tells of is a forged one."""
RUN_ACTION = "retention.run"
_OF_RETENTION = (CUT_ACTION, RUN_ACTION)
"""What retention writes of itself. The newest entry of others stays: were these counted, each cut would make room for the next."""
VERIFY_BATCH_ENTRIES = 1000
ANY_ACT = AuditFilter()


class _Act(NamedTuple):
    """What happened, before it has its place in the chain."""

    project_id: str
    who: Identity | None
    action: str
    noun: str
    noun_id: str
    data: dict[str, Any]
    is_move: bool = False
    """It tells where a thing went of itself; left out where the transaction tells of that thing otherwise."""


class AuditRepository:
    """Acts are gathered while the transaction works and written just before its commit.

    The end of a project's chain is locked for that instant alone, so that what goes on side by side in a project waits for each
    other's commit and no longer. Projects are taken by id, and after every other row but the route revision: no deadlock.
    """

    def __init__(self, session: AsyncSession, *, actor: Identity | None = None) -> None:
        self._session = session
        self._actor = actor
        self._acts: list[_Act] = []

    async def record(
        self,
        identity: Identity | None,
        action: str,
        noun: str,
        noun_id: str,
        data: dict[str, Any] | None = None,
        *,
        project_id: str | None = None,
    ) -> None:
        """Notes that ``identity`` did ``action`` (``job.submit``) to a thing; None means whoever the transaction acts for, and the
        platform itself where it acts for nobody.

        ``project_id`` says whose thing it is, where it is not the identity's project; it must be given where there is no identity.
        Raises ValueError otherwise.
        """
        project = project_id or (identity.project_id if identity is not None else None)
        if project is None:
            raise ValueError("an act of the platform itself must name its project_id")
        self._acts.append(_Act(project, identity or self._actor, action, noun, noun_id, storable_json(data or {})))

    def note_move(self, noun: str, noun_id: str, state: str, data: dict[str, Any], *, project_id: str) -> None:
        """Notes where a thing went: ``job.running``. Nothing where this transaction says what was done to the thing that it went there."""
        facts = {name: value for name, value in data.items() if value is not None}
        self._acts.append(_Act(project_id, self._actor, f"{noun}.{state}", noun, noun_id, storable_json(facts), is_move=True))

    def counted(self) -> int:
        """Returns how many acts were noted until now."""
        return len(self._acts)

    def forget_after(self, counted: int) -> None:
        """Forgets what was noted since: it was taken back."""
        del self._acts[counted:]

    async def write(self) -> None:
        """Gives what was noted its places at the end of the chains, and forgets it."""
        by_project: defaultdict[str, list[_Act]] = defaultdict(list)
        told = {act.noun_id for act in self._acts if not act.is_move}
        for act in self._acts:
            if not act.is_move or act.noun_id not in told:
                by_project[act.project_id].append(act)
        for project_id in sorted(by_project):
            await self._append(project_id, by_project[project_id])
        self._acts.clear()

    async def list(
        self, project_id: str, which: AuditFilter = ANY_ACT, *, after: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[AuditEntry]:
        """Returns a page of those of a project's entries that are asked for, newest first."""
        statement = select(AuditRow).where(AuditRow.project_id == project_id, *_conditions(which))
        return await load_page(self._session, statement, AuditRow.id, lambda row: _entry(row[0]), after=after, limit=limit)

    async def verify(self, project_id: str) -> AuditVerification:
        """Returns what a walk along the whole chain of a project found. Call it in a transaction that reads one moment."""
        end = (await self._session.scalars(select(AuditChainRow).where(AuditChainRow.project_id == project_id))).one_or_none()
        anchor = await self._anchor(project_id)
        seq, before = (0, GENESIS_HASH) if anchor is None else (anchor.seq, anchor.hash)
        first_seq, num_entries, is_cut_told = None, 0, anchor is None
        broken_at: AuditBreak | None = None
        while broken_at is None:
            entries = await self._following(project_id, seq)
            if not entries:
                break
            # In a thread: hashing a thousand entries takes a tenth of a second, in which nobody else would be answered.
            broken_at = await asyncio.to_thread(find_break, entries, after_seq=seq, after_hash=before)
            first_seq = first_seq or entries[0].seq
            num_entries += len(entries)
            seq, before = entries[-1].seq, entries[-1].hash
            is_cut_told = is_cut_told or any(anchor is not None and _tells_of(entry, anchor) for entry in entries)
        last_seq, last_hash = (0, GENESIS_HASH) if end is None else (end.seq, end.hash)
        if broken_at is None:
            broken_at = _break_at_end(seq, before, last_seq, last_hash)
        if broken_at is None and anchor is not None and not is_cut_told:
            broken_at = AuditBreak(seq=anchor.seq, why="what lies before was removed, and no entry tells of that")
        return AuditVerification(
            project_id=project_id,
            is_whole=broken_at is None,
            num_entries=num_entries,
            first_seq=first_seq,
            last_seq=last_seq,
            last_hash=last_hash,
            anchor=anchor,
            broken_at=broken_at,
        )

    async def hash_at(self, project_id: str, seq: int) -> str | None:
        """Returns the hash of the entry or anchor at a place of a project's chain; None where there is neither."""
        kept = select(AuditRow.hash).where(AuditRow.project_id == project_id, AuditRow.seq == seq)
        cut = select(AuditAnchorRow.hash).where(AuditAnchorRow.project_id == project_id, AuditAnchorRow.seq == seq)
        return (await self._session.scalars(kept.union_all(cut).limit(1))).first()

    async def cut(self, project_id: str, before: datetime, *, limit: int) -> int:
        """Returns how many of a project's entries it removed: its oldest, all older than ``before``, at most ``limit``.

        The hash of the last one stays as the anchor of the rest, and an entry tells of it. The newest entry that does not tell of
        retention always stays.
        """
        newest = select(func.max(AuditRow.seq)).where(AuditRow.project_id == project_id, AuditRow.action.not_in(_OF_RETENTION))
        oldest = select(AuditRow.seq, AuditRow.hash, AuditRow.created_at).where(
            AuditRow.project_id == project_id, AuditRow.seq < newest.scalar_subquery()
        )
        rows = (await self._session.execute(oldest.order_by(AuditRow.seq).limit(limit))).all()
        # Commits come in another order than beginnings: the first one that is young enough ends the prefix.
        prefix = list(takewhile(lambda row: row.created_at < before, rows))
        if not prefix:
            return 0
        last = prefix[-1]
        self._session.add(AuditAnchorRow(project_id=project_id, seq=last.seq, hash=last.hash))
        await self._session.flush()
        gone = await self._session.scalars(
            delete(AuditRow)
            .where(AuditRow.project_id == project_id, AuditRow.seq <= last.seq)
            .returning(AuditRow.id)
            .execution_options(synchronize_session=False)
        )
        num_removed = len(gone.all())
        facts = {"seq": last.seq, "hash": last.hash, "num_entries": num_removed, "before": before.isoformat()}
        await self.record(None, CUT_ACTION, "project", project_id, facts, project_id=project_id)
        return num_removed

    async def old(self, before: datetime) -> tuple[int, int]:
        """Returns how many entries of all projects ``cut`` would remove, step by step, and their size in bytes as they are stored."""
        young = select(func.min(AuditRow.seq)).where(AuditRow.project_id == AuditChainRow.project_id, AuditRow.created_at >= before)
        newest = select(func.max(AuditRow.seq)).where(
            AuditRow.project_id == AuditChainRow.project_id, AuditRow.action.not_in(_OF_RETENTION)
        )
        first_young, newest_act = (one.correlate(AuditChainRow).scalar_subquery() for one in (young, newest))
        # least() passes over what is not there: a log without young entries ends with its newest act.
        end = func.least(first_young, func.coalesce(newest_act, 0))
        ends = select(AuditChainRow.project_id, end.label("seq")).cte("ends")
        counted = select(func.count(), func.coalesce(func.sum(stored_size(AuditRow)), 0)).select_from(AuditRow)
        joined = counted.join(ends, (ends.c.project_id == AuditRow.project_id) & (AuditRow.seq < ends.c.seq))
        num, size_bytes = (await self._session.execute(joined)).one()
        return num, int(size_bytes)

    async def oldest_at(self) -> datetime | None:
        """Returns when the oldest entry of any project was written."""
        first = (
            select(AuditRow.created_at).where(AuditRow.project_id == AuditChainRow.project_id).order_by(AuditRow.seq).limit(1)
        ).correlate(AuditChainRow)
        return await self._session.scalar(select(func.min(first.scalar_subquery())).select_from(AuditChainRow))

    async def project_ids(self) -> Sequence[str]:
        """Returns the ids of every project that has a chain."""
        return (await self._session.scalars(select(AuditChainRow.project_id).order_by(AuditChainRow.project_id))).all()

    async def _append(self, project_id: str, acts: Sequence[_Act]) -> None:
        end = select(AuditChainRow.seq, AuditChainRow.hash, func.now().label("now")).where(AuditChainRow.project_id == project_id)
        locked = end.with_for_update(key_share=True)
        found = (await self._session.execute(locked)).one_or_none()
        if found is None:
            first = upsert(AuditChainRow).values(project_id=project_id, seq=0, hash=GENESIS_HASH)
            await self._session.execute(first.on_conflict_do_nothing())
            found = (await self._session.execute(locked)).one()
        rows = list(_chained(project_id, acts, seq=found.seq, before=found.hash, created_at=found.now))
        written = insert(AuditRow).values(rows).cte("written")
        moved = update(AuditChainRow).where(AuditChainRow.project_id == project_id).values(seq=rows[-1]["seq"], hash=rows[-1]["hash"])
        await self._session.execute(moved.add_cte(written).execution_options(synchronize_session=False))

    async def _following(self, project_id: str, seq: int) -> Sequence[AuditEntry]:
        statement = select(AuditRow).where(AuditRow.project_id == project_id, AuditRow.seq > seq).order_by(AuditRow.seq)
        rows = await self._session.scalars(statement.limit(VERIFY_BATCH_ENTRIES), execution_options={"populate_existing": True})
        entries = [_entry(row) for row in rows]
        # A long chain must not stay in memory.
        self._session.expunge_all()
        return entries

    async def _anchor(self, project_id: str) -> AuditAnchor | None:
        statement = select(AuditAnchorRow).where(AuditAnchorRow.project_id == project_id).order_by(AuditAnchorRow.seq.desc()).limit(1)
        row = (await self._session.scalars(statement)).one_or_none()
        return None if row is None else AuditAnchor(seq=row.seq, hash=row.hash, created_at=row.created_at)


def _chained(project_id: str, acts: Sequence[_Act], *, seq: int, before: str, created_at: datetime) -> Iterator[dict[str, Any]]:
    """Yields the rows of acts that follow the entry ``seq`` with the hash ``before``."""
    for act in acts:
        seq += 1
        fields: dict[str, Any] = {
            "id": new_id(IdPrefix.AUDIT),
            "project_id": project_id,
            "seq": seq,
            "key_id": None if act.who is None else act.who.key_id,
            "role": None if act.who is None else act.who.role,
            "action": storable_text(act.action),
            "noun": storable_text(act.noun),
            "noun_id": storable_text(act.noun_id),
            "data": act.data,
            "created_at": created_at,
            "previous_hash": before,
        }
        before = chained_hash(fields)
        yield fields | {"hash": before}


def _tells_of(entry: AuditEntry, anchor: AuditAnchor) -> bool:
    return entry.action == CUT_ACTION and (entry.data.get("seq"), entry.data.get("hash")) == (anchor.seq, anchor.hash)


def _break_at_end(seq: int, found: str, last_seq: int, last_hash: str) -> AuditBreak | None:
    """Returns what is wrong where the entries end at ``seq`` and the chain's noted end is ``last_seq``."""
    if seq < last_seq:
        return AuditBreak(seq=seq + 1, why=f"the entry is missing: {last_seq} were written")
    if seq > last_seq:
        return AuditBreak(seq=last_seq + 1, why=f"{last_seq} entries were written, and there are more")
    return None if found == last_hash else AuditBreak(seq=seq, why="it is not the entry that the chain was noted to end with")


def _conditions(which: AuditFilter) -> Iterator[ColumnElement[bool]]:
    for column, wanted in ((AuditRow.key_id, which.key_id), (AuditRow.noun, which.noun), (AuditRow.noun_id, which.noun_id)):
        if wanted is not None:
            yield column == wanted
    if which.action is not None and which.action.endswith(".*"):
        yield AuditRow.action.startswith(which.action.removesuffix("*"), autoescape=True)
    elif which.action is not None:
        yield AuditRow.action == which.action
    if which.since is not None:
        yield AuditRow.created_at >= which.since
    if which.until is not None:
        yield AuditRow.created_at < which.until


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        project_id=row.project_id,
        seq=row.seq,
        key_id=row.key_id,
        role=row.role,
        action=row.action,
        noun=row.noun,
        noun_id=row.noun_id,
        data=row.data,
        created_at=row.created_at,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
