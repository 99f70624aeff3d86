"""The whole database as one moment saw it, and bringing that back into an empty one.

Blocking, with connections of their own: a dump takes longer than any statement of a service may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Generic, TypeVar

from psycopg import sql
from sqlalchemy import Connection, NullPool, create_engine, func, inspect, select, text
from sqlalchemy.exc import DBAPIError

from quantry_store.postgres_tools import CONNECT_TIMEOUT_S, DumpError, PostgresTools
from quantry_store.repositories.blobs import Blob, lasting
from quantry_store.tables import BlobRow, JobCheckpointFileRow, ProjectRow

MAJOR = 10_000
"""``server_version_num`` of Postgres 17.4 is 170004."""

NUM_AT_ONCE = 5_000

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot(Generic[T]):
    """What a dump holds, and what the vault must hold beside it."""

    taken_at: datetime
    """By the database's clock."""
    revision: str
    server_major: int
    blobs: list[Blob]
    """By digest; without those that only checkpoints of running jobs hold: these come and go by the minute."""
    num_left_out: int
    written: T


@dataclass(frozen=True)
class Target:
    """A database that something is to be restored into."""

    server_major: int
    has_tables: bool
    num_projects: int
    num_others: int
    """Connections of others to it."""


def take_snapshot(url: str, tools: PostgresTools, write: Callable[[BinaryIO], T]) -> Snapshot[T]:
    """Returns what one moment of the database was, with its dump given to ``write`` as a stream.

    Dump and list of blobs come of one exported snapshot, so neither knows of anything that the other does not. Raises
    DumpError where there is no migrated database, the programs are older than the server, or pg_dump fails.
    """
    with _transaction(url, isolation_level="REPEATABLE READ") as connection:
        server_major = _server_major(connection)
        if tools.major < server_major:
            raise DumpError(f"{tools.pg_dump} is of Postgres {tools.major}, the server of {server_major}: use one as new as the server")
        if not inspect(connection).has_table(ProjectRow.__tablename__):
            raise DumpError("the database holds no tables of Quantry's: there is nothing to back up")
        blobs = [Blob(sha256, size_bytes) for sha256, size_bytes in connection.execute(lasting())]
        num_all = connection.scalar(select(func.count()).select_from(BlobRow)) or 0
        taken_at: datetime = connection.execute(text("select now()")).scalar_one()
        revision: str = connection.execute(text("select version_num from alembic_version")).scalar_one()
        snapshot: str = connection.execute(text("select pg_export_snapshot()")).scalar_one()
        with tools.dumping(url, snapshot) as stream:
            written = write(stream)
    return Snapshot(taken_at, revision, server_major, blobs, num_all - len(blobs), written)


def gone_since(url: str, digests: Iterable[str]) -> set[str]:
    """Returns which of these blobs the database does not know any more: they were collected."""
    wanted = list(digests)
    known: set[str] = set()
    with _transaction(url) as connection:
        for start in range(0, len(wanted), NUM_AT_ONCE):
            part = wanted[start : start + NUM_AT_ONCE]
            known.update(connection.scalars(select(BlobRow.sha256).where(BlobRow.sha256.in_(part))))
    return set(wanted) - known


def look_at(url: str) -> Target:
    """Returns what is in a database now, and who else is connected to it."""
    with _transaction(url) as connection:
        has_tables = bool(inspect(connection).get_table_names())
        has_projects = inspect(connection).has_table(ProjectRow.__tablename__)
        num_projects = connection.scalar(select(func.count()).select_from(ProjectRow)) if has_projects else 0
        # The server's own processes, an autovacuum of these tables among them, are nobody's.
        others = (
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and usesysid is not null"
        )
        return Target(_server_major(connection), has_tables, num_projects or 0, connection.execute(text(others)).scalar_one())


def clear(url: str) -> None:
    """Removes everything from a database: tables, functions, triggers. Raises DumpError where this account may not."""
    try:
        with _transaction(url) as connection:
            connection.execute(text("drop schema public cascade"))
            connection.execute(text("create schema public"))
    except DBAPIError as error:
        raise DumpError(f"the database cannot be emptied: {error.orig}") from error


def keep_only(url: str, digests: Iterable[str]) -> int:
    """Forgets, in a database just restored, every blob that is not among ``digests``, and lets checkpoints go that hold one of
    them: their jobs go on from an earlier step. Returns the number of forgotten blobs. Raises DumpError where something else
    holds one.
    """
    try:
        with _transaction(url) as connection:
            connection.execute(text("create temporary table kept_blobs (sha256 text primary key) on commit drop"))
            _copy(connection, "kept_blobs", digests)
            gone = select(BlobRow.sha256).where(BlobRow.sha256.not_in(select(text("sha256")).select_from(text("kept_blobs"))))
            steps = select(JobCheckpointFileRow.job_id, JobCheckpointFileRow.step).where(JobCheckpointFileRow.sha256.in_(gone))
            for job_id, step in connection.execute(steps.distinct()).all():
                files = JobCheckpointFileRow.__table__.delete()  # type: ignore[attr-defined]  # a Table at run time
                connection.execute(files.where(JobCheckpointFileRow.job_id == job_id, JobCheckpointFileRow.step == step))
            digests_gone = connection.scalars(gone).all()
            blobs = BlobRow.__table__.delete()  # type: ignore[attr-defined]
            connection.execute(blobs.where(BlobRow.sha256.in_(gone)))
    except DBAPIError as error:
        raise DumpError(f"the restored database refers to bytes that the backup does not list: {error.orig}") from error
    return len(digests_gone)


def _copy(connection: Connection, table: str, values: Iterable[str]) -> None:
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier(table))) as copy:
        for value in values:
            copy.write_row((value,))


def _server_major(connection: Connection) -> int:
    return int(connection.execute(text("show server_version_num")).scalar_one()) // MAJOR


@contextmanager
def _transaction(url: str, **options: str) -> Iterator[Connection]:
    """A transaction that no time limit of the role ends. Raises DumpError where the database does not answer."""
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_S}, **options)
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise DumpError(f"the database does not answer: {error.orig}") from error
    with connection, connection.begin():
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"set local {limit} = 0"))
        yield connection
