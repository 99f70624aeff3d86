"""What the database refuses, in Quantry's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from quantry_core.errors import Unavailable, VersionProtected

PROTECTED_SQLSTATE = "QT001"
"""Raised by the triggers that guard versions; see migrations/versions/0001_spine.py."""


@contextmanager
def core_errors() -> Iterator[None]:
    """Turns a lost database, a full pool, a lock waited for too long or a deadlock into Unavailable, and a refusal of the
    version triggers into VersionProtected. Everything else is a defect and passes through."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Unavailable("every database connection is in use; try again") from error
    except (OperationalError, InterfaceError) as error:
        raise Unavailable("the database did not answer; try again") from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error) and error.orig.diag.sqlstate == PROTECTED_SQLSTATE:
            raise VersionProtected(error.orig.diag.message_primary or "this version is protected") from error
        if error.connection_invalidated:
            raise Unavailable("the database connection was lost; try again") from error
        raise
