"""The revision of the routes, by which gateways know that something changed."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_store.tables import RouteRevisionRow


class RouteRevision:
    """Counts up at most once a transaction, and only just before its commit.

    The revision's row lock serialises every such transaction. Taken last and held for an instant, it never makes a
    deadlock, and revision N is visible only together with everything that changed up to N.
    """

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._is_changed = False

    def bump(self) -> None:
        """Marks the routes or keys as changed in this transaction."""
        self._is_changed = True

    async def count_up(self) -> None:
        """Counts up if ``bump`` was called since the last time."""
        if self._is_changed:
            await self._session.execute(update(RouteRevisionRow).values(revision=RouteRevisionRow.revision + 1))
            self._is_changed = False

    async def current(self) -> int:
        """Returns the revision of the last committed change."""
        return (await self._session.scalars(select(RouteRevisionRow.revision))).one()
