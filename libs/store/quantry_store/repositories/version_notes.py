"""Tags and notes of versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import InvalidInput
from quantry_core.jobs import check_labels
from quantry_core.jobs.labels import MAX_LABELS
from quantry_core.keys import Identity
from quantry_core.tags import check_tags
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
        return _notes(row)

    async def change(self, version: Version, change: VersionNotesChange, who: Identity) -> VersionNotes:
        """Returns what is written about a version after the change; raises InvalidInput for more tags than are kept."""
        row = await self._held(version)
        kept = row.tags if change.tags is None else change.tags
        tags = {key: value for key, value in kept.items() if key not in change.remove_tags} | change.set_tags
        try:
            row.tags = check_labels(tags)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        row.texts = {key: value for key, value in row.texts.items() if key not in row.tags and key not in change.remove_tags}
        if change.notes is not None:
            row.notes = change.notes
        return await self._write(row, version, change.model_dump(mode="json", exclude_unset=True), who)

    async def change_texts(
        self, version: Version, *, set_tags: Mapping[str, str], remove_tags: Collection[str] = (), who: Identity
    ) -> VersionNotes:
        """Returns what is written about a version after tags of any length changed: those that selectors can write become its labels,
        the others its texts. Raises InvalidInput for what is not kept, or too many."""
        row = await self._held(version)
        gone = {*set_tags, *remove_tags}
        tags = {key: value for key, value in row.tags.items() if key not in gone}
        texts = {key: value for key, value in row.texts.items() if key not in gone}
        for key, value in set_tags.items():
            (tags if len(tags) < MAX_LABELS and _is_label(key, value) else texts)[key] = value
        try:
            check_tags(tags | texts)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        row.tags, row.texts = tags, texts
        facts: dict[str, Any] = {"set_tags": dict(set_tags), "remove_tags": list(remove_tags)}
        return await self._write(row, version, {name: value for name, value in facts.items() if value}, who)

    async def _held(self, version: Version) -> VersionNotesRow:
        # The row first, so that two changes at once are made one after the other and none is lost.
        empty = {"version_id": version.id, "project_id": version.project_id, "tags": {}, "texts": {}, "notes": ""}
        await self._session.execute(
            insert(VersionNotesRow).values(empty).on_conflict_do_nothing(index_elements=[VersionNotesRow.version_id])
        )
        statement = select(VersionNotesRow).where(VersionNotesRow.version_id == version.id).with_for_update()
        return (await self._session.scalars(statement, execution_options={"populate_existing": True})).one()

    async def _write(self, row: VersionNotesRow, version: Version, facts: dict[str, Any], who: Identity) -> VersionNotes:
        row.updated_at = (await self._session.execute(select(func.now()))).scalar_one()
        await self._session.flush()
        await self._audit.record(who, "version.annotate", "version", version.id, facts)
        return _notes(row)

    async def _row(self, version: Version) -> VersionNotesRow | None:
        statement = select(VersionNotesRow).where(VersionNotesRow.version_id == version.id)
        return (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()


def _notes(row: VersionNotesRow) -> VersionNotes:
    return VersionNotes(version_id=row.version_id, tags=row.tags, texts=row.texts, notes=row.notes, updated_at=row.updated_at)


def _is_label(key: str, value: str) -> bool:
    try:
        check_labels({key: value})
    except ValueError:
        return False
    return True
