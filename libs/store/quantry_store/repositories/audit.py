"""The audit log: written in the transaction it tells of, read newest first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.audit import AuditEntry
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import Identity
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_store.repositories.paging import load_page
from quantry_store.tables import AuditRow


class AuditRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(
        self,
        identity: Identity | None,
        action: str,
        noun: str,
        noun_id: str,
        data: dict[str, Any] | None = None,
        *,
        project_id: str | None = None,
    ) -> None:
        """Notes that ``identity`` did ``action`` (``job.submit``) to a thing; None means the platform itself.

        ``project_id`` is that of the identity, and must be given where there is none; raises ValueError otherwise.
        """
        project = identity.project_id if identity is not None else project_id
        if project is None:
            raise ValueError("an act of the platform itself must name its project_id")
        self._session.add(
            AuditRow(
                id=new_id(IdPrefix.AUDIT),
                project_id=project,
                key_id=identity.key_id if identity is not None else None,
                role=identity.role if identity is not None else None,
                action=action,
                noun=noun,
                noun_id=noun_id,
                data=data or {},
            )
        )
        await self._session.flush()

    async def list(self, project_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[AuditEntry]:
        """Returns a page of a project's entries, newest first."""
        statement = select(AuditRow).where(AuditRow.project_id == project_id)
        return await load_page(self._session, statement, AuditRow.id, lambda row: _entry(row[0]), after=after, limit=limit)


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        project_id=row.project_id,
        key_id=row.key_id,
        role=row.role,
        action=row.action,
        noun=row.noun,
        noun_id=row.noun_id,
        data=row.data,
        created_at=row.created_at,
    )
