"""Cursor pages over ids: UUIDv7 sorts by time of creation, so newest first is id descending."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

from sqlalchemy import Row, Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from quantry_core.pages import MAX_LIMIT, Page


class Identified(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)
Columns = TypeVarTuple("Columns")


async def load_page(
    session: AsyncSession,
    statement: Select[*Columns],
    key: InstrumentedAttribute[str],
    convert: Callable[[Row[*Columns]], T],
    *,
    after: str | None,
    limit: int,
) -> Page[T]:
    """Returns one page of ``statement``, newest first, of what comes after the item with id ``after``.

    ``limit`` is held between 1 and MAX_LIMIT. ``key`` is the id column.
    """
    size = min(max(limit, 1), MAX_LIMIT)
    if after is not None:
        statement = statement.where(key < after)
    # One more than asked for tells whether there is a next page without counting.
    rows = (await session.execute(statement.order_by(key.desc()).limit(size + 1))).all()
    data = [convert(row) for row in rows[:size]]
    return Page(
        data=data,
        has_more=len(rows) > size,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )
