# Made from quantry/aio/resources/audit.py by make_sync.py: change that file, and run this again.
"""The audit log of the key's project. Only an admin key may read it."""

from __future__ import annotations

from collections.abc import Generator

from quantry.paging import every
from quantry.transport import Transport
from quantry_core.audit import AuditEntry, AuditFilter, AuditVerification
from quantry_core.pages import DEFAULT_LIMIT, Page

_PATH = "/api/v1/audit"
_ANY_ACT = AuditFilter()


class Audit:
    """``client.audit``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, which: AuditFilter = _ANY_ACT, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[AuditEntry]:
        """Returns one page of those entries that are asked for, newest first."""
        asked = which.model_dump(mode="json", exclude_none=True)
        return self._transport.get(Page[AuditEntry], _PATH, {**asked, "after": after, "limit": limit})

    def iterate(self, which: AuditFilter = _ANY_ACT, *, max_items: int | None = None) -> Generator[AuditEntry, None, None]:
        """Yields every entry that is asked for, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(which, after=after, limit=limit), max_items)

    def verify(self, *, seq: int | None = None, hash: str | None = None) -> AuditVerification:
        """Returns what a walk along the whole chain found. ``seq`` and ``hash``: a place and its hash as they were noted elsewhere before.

        A long chain takes a while: make the client with a longer ``timeout_s`` for millions of entries.
        """
        return self._transport.get(AuditVerification, f"{_PATH}/verify", {"seq": seq, "hash": hash})
