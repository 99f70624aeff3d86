"""What the database refuses, in Quantry's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from quantry_core.errors import Unavailable, VersionProtected

PROTECTED_SQLSTATE = "QT001"
"""Raised by the triggers that guard versions; see migrations/versions/0001_spine.py."""

AWAY_SQLSTATES = frozenset(
    {
        "25P03",  # idle_in_transaction_session_timeout: this process was held up in the middle, and its session was ended
        "25P04",  # transaction_timeout
        "25006",  # read_only_sql_transaction: a standby answers, in the middle of a failover
    }
)
"""Refusals that psycopg does not count among the operational errors, and yet nothing is wrong but the moment."""

LOST_CONNECTION_CODE = "8s2b"
"""SQLAlchemy's code for: the connection was lost earlier in this transaction, and somebody went on."""


@contextmanager
def core_errors() -> Iterator[None]:
    """Turns a lost database, a full pool, a lock waited for too long or a deadlock into Unavailable, and a refusal of the
    version triggers into VersionProtected. Everything else is a defect and passes through."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Unavailable("every database connection is in use; try again") from error
    except (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError) as error:
        # psycopg's own come through bare where a connection is lost between two statements of SQLAlchemy's.
        raise Unavailable("the database did not answer; try again") from error
    except PendingRollbackError as error:
        if error.code == LOST_CONNECTION_CODE:
            raise Unavailable("the database connection was lost; try again") from error
        raise
    except DBAPIError as error:
        sqlstate = error.orig.sqlstate if isinstance(error.orig, psycopg.Error) else None
        if isinstance(error.orig, psycopg.Error) and sqlstate == PROTECTED_SQLSTATE:
            raise VersionProtected(error.orig.diag.message_primary or "this version is protected") from error
        if error.connection_invalidated or sqlstate in AWAY_SQLSTATES:
            raise Unavailable("the database connection was lost; try again") from error
        raise
