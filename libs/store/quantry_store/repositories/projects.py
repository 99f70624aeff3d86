"""Tenants."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.ids import IdPrefix, new_id
from quantry_store.references import require_name
from quantry_store.tables import ProjectRow


class ProjectRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get_or_create(self, name: str) -> str:
        """Returns the id of the project of that name, made if there is none; raises InvalidName."""
        row = {"id": new_id(IdPrefix.PROJECT), "name": require_name(name)}
        await self._session.execute(insert(ProjectRow).values(row).on_conflict_do_nothing(index_elements=[ProjectRow.name]))
        return (await self._session.scalars(select(ProjectRow.id).where(ProjectRow.name == name))).one()
