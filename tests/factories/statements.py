"""What a store asks of the database, counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.orm import DeclarativeBase

from quantry_store.database import Database
from quantry_store.unit_of_work import UnitOfWork


@contextmanager
def statements_of(database: Database) -> Iterator[list[str]]:
    """Yields the statements that are sent while the block runs, in a list that grows."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def loaded_rows(table: type[DeclarativeBase]) -> Iterator[list[object]]:
    """Yields the rows of a table that are loaded while the block runs, in a list that grows."""
    loaded: list[object] = []

    def note(row: object, _context: Any) -> None:
        loaded.append(row)

    event.listen(table, "load", note)
    try:
        yield loaded
    finally:
        event.remove(table, "load", note)


async def num_read(uow: UnitOfWork, table: str) -> int:
    """Returns how many rows of a table this transaction has read so far, by the database's own count."""
    counts = text("select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables where relname = :table")
    return int((await uow._session.execute(counts, {"table": table})).scalar_one())
