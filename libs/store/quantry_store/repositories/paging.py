"""Cursor pages over ids: UUIDv7 sorts by time of creation, so newest first is id descending."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, TypeVarTuple, cast

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
    convert: Callable[[Row[*Columns]], T | None],
    *,
    after: str | None,
    limit: int,
) -> Page[T]:
    """Returns one page of ``statement``, newest first, of what comes after the item with id ``after``.

    ``limit`` is held between 1 and MAX_LIMIT. ``key`` is the id column of the entity that each row begins with. What ``convert``
    makes None of is left out; ``last_id`` may be its id, so that the next page begins after it.
    """
    size = min(max(limit, 1), MAX_LIMIT)
    if after is not None:
        statement = statement.where(key < after)
    # One more than asked for tells whether there is a next page without counting.
    rows = (await session.execute(statement.order_by(key.desc()).limit(size + 1))).all()
    shown = rows[:size]
    entities = [cast("Any", row)[0] for row in shown]
    ids = [str(getattr(entity, key.key)) for entity in entities]
    return Page(
        data=[item for row in shown if (item := convert(row)) is not None],
        has_more=len(rows) > size,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
    )
