"""The connection pool, and the one way to a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from quantry_core.keys import Identity
from quantry_store.failures import core_errors
from quantry_store.unit_of_work import UnitOfWork

CONNECT_TIMEOUT_S = 5
POOL_TIMEOUT_S = 10
STATEMENT_TIMEOUT_S = 30
IDLE_IN_TRANSACTION_TIMEOUT_S = 60
"""A service that hangs inside a transaction loses its locks after this long instead of stopping everyone."""


def _nothing(_uow: UnitOfWork) -> None:
    """What is called after a commit where nobody counts."""


class Database:
    """A pool of connections to Quantry's database. Make one per process, inside its event loop; close it at the end."""

    def __init__(self, url: str, *, pool_size: int = 5, on_commit: Callable[[UnitOfWork], None] = _nothing) -> None:
        """``url`` is ``postgresql+psycopg://...``. Up to ``pool_size`` connections are kept, and as many more opened under load.

        ``on_commit`` is called with each unit of work once it is committed, to count what it did.
        """
        self._on_commit = on_commit
        parsed = make_url(url)
        own_options = parsed.query.get("options", "")
        options = (
            f"{own_options} -c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_S * 1000}"
            f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_S * 1000}"
        )
        self._engine = create_async_engine(
            parsed,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
            # Server-side prepared statements do not survive a transaction pooler such as PgBouncer.
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": options.strip(), "prepare_threshold": None},
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._glances = async_sessionmaker(self._engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False)

    @asynccontextmanager
    async def begin(self, actor: Identity | None = None) -> AsyncIterator[UnitOfWork]:
        """Yields a unit of work that commits when the block ends and rolls back if it raises. Acts that name nobody are ``actor``'s.

        Raises Unavailable when the database is away, a lock was waited for too long, or Postgres broke a deadlock: nothing
        was written and the same call may be tried again. Raises VersionProtected when a trigger refused.
        """
        with core_errors():
            async with self._sessions.begin() as session:
                uow = UnitOfWork(session, actor=actor)
                yield uow
                await uow.before_commit()
        self._on_commit(uow)

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[UnitOfWork]:
        """Yields a unit of work for a single read: without a transaction around it, that is a third of the way to Postgres.

        Raises Unavailable as ``begin`` does. Whatever needs two statements of one moment, or writes, begins a transaction.
        """
        with core_errors():
            async with self._glances() as session:
                yield UnitOfWork(session)

    async def ping(self) -> None:
        """Returns when the database answers a query and its schema is there; raises Unavailable otherwise."""
        async with self.begin() as uow:
            await uow.routes.revision()

    async def close(self) -> None:
        """Closes every connection of the pool."""
        await self._engine.dispose()
