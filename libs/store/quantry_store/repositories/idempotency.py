"""Idempotency keys: which submission a key stands for."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from quantry_store.tables import IdempotencyKeyRow


class IdempotencyRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, project_id: str, key: str, request_sha256: str) -> str | None:
        """Returns the id of what a key was used to make, None if it was not used yet; raises IdempotencyKeyReused if that was
        another request."""
        statement = select(IdempotencyKeyRow.request_sha256, IdempotencyKeyRow.noun_id).where(
            IdempotencyKeyRow.project_id == project_id, IdempotencyKeyRow.key == key
        )
        row = (await self._session.execute(statement)).one_or_none()
        if row is None:
            return None
        used_for, noun_id = row
        if used_for != request_sha256:
            raise IdempotencyKeyReused(
                "this Idempotency-Key was used with another method, address or body; take a new key for a new request"
            )
        return noun_id

    async def claim(self, project_id: str, key: str, request_sha256: str) -> str | None:
        """Returns what ``find`` does; the key is this transaction's until it ends, so that a second request with it makes
        nothing meanwhile. Raises IdempotencyKeyInFlight if it is another's just now, IdempotencyKeyReused."""
        # A lock of the transaction: it is gone once what it guarded can be seen, and with the connection if that is lost.
        lock = func.pg_try_advisory_xact_lock(func.hashtextextended(f"{project_id} {key}", 0))
        if not (await self._session.scalars(select(lock))).one():
            raise IdempotencyKeyInFlight("a request with this Idempotency-Key is being worked on; ask again for what it made")
        return await self.find(project_id, key, request_sha256)

    async def save(self, project_id: str, key: str, request_sha256: str, noun_id: str) -> None:
        """Notes what a claimed key stands for from now on."""
        self._session.add(IdempotencyKeyRow(project_id=project_id, key=key, request_sha256=request_sha256, noun_id=noun_id))
        await self._session.flush()
