"""Tags and notes of versions."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import InvalidInput
from quantry_core.jobs import check_labels
from quantry_core.keys import Identity
from quantry_core.version_notes import VersionNotes, VersionNotesChange
from quantry_core.versions import Version
from quantry_store.repositories.audit import AuditRepository
from quantry_store.tables import VersionNotesRow


class VersionNotesRepository:
    def __init__(self, session: AsyncSession, *, audit: AuditRepository) -> None:
        self._session = session
        self._audit = audit

    async def get(self, version: Version) -> VersionNotes:
        """Returns what is written about a version; empty where nothing is."""
        row = await self._row(version)
        if row is None:
            return VersionNotes(version_id=version.id, tags={}, notes="", updated_at=None)
        return VersionNotes(version_id=version.id, tags=row.tags, notes=row.notes, updated_at=row.updated_at)

    async def change(self, version: Version, change: VersionNotesChange, who: Identity) -> VersionNotes:
        """Returns what is written about a version after the change; raises InvalidInput for more tags than are kept."""
        # The row first, so that two changes at once are made one after the other and none is lost.
        empty = {"version_id": version.id, "project_id": version.project_id, "tags": {}, "notes": ""}
        await self._session.execute(
            insert(VersionNotesRow).values(empty).on_conflict_do_nothing(index_elements=[VersionNotesRow.version_id])
        )
        statement = select(VersionNotesRow).where(VersionNotesRow.version_id == version.id).with_for_update()
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one()
        kept = row.tags if change.tags is None else change.tags
        tags = {key: value for key, value in kept.items() if key not in change.remove_tags} | change.set_tags
        try:
            row.tags = check_labels(tags)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        if change.notes is not None:
            row.notes = change.notes
        row.updated_at = (await self._session.execute(select(func.now()))).scalar_one()
        await self._session.flush()
        await self._audit.record(who, "version.annotate", "version", version.id, change.model_dump(mode="json", exclude_unset=True))
        return VersionNotes(version_id=version.id, tags=row.tags, notes=row.notes, updated_at=row.updated_at)

    async def _row(self, version: Version) -> VersionNotesRow | None:
        statement = select(VersionNotesRow).where(VersionNotesRow.version_id == version.id)
        return (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
