"""Tags and notes of models."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import InvalidInput
from quantry_core.keys import Identity
from quantry_core.model_notes import ModelNotes, ModelNotesChange
from quantry_core.tags import check_tags
from quantry_core.versions import Model
from quantry_store.repositories.audit import AuditRepository
from quantry_store.tables import ModelNotesRow


class ModelNotesRepository:
    def __init__(self, session: AsyncSession, *, audit: AuditRepository) -> None:
        self._session = session
        self._audit = audit

    async def get(self, model: Model) -> ModelNotes:
        """Returns what is written about a model; empty where nothing is."""
        statement = select(ModelNotesRow).where(ModelNotesRow.model_id == model.id)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        return ModelNotes(model_id=model.id, tags={}, notes="", updated_at=None) if row is None else _notes(row)

    async def change(self, model: Model, change: ModelNotesChange, who: Identity) -> ModelNotes:
        """Returns what is written about a model after the change; raises InvalidInput for a tag that is not kept, or too many."""
        # The row first, so that two changes at once are made one after the other and none is lost.
        empty = {"model_id": model.id, "project_id": model.project_id, "tags": {}, "notes": ""}
        await self._session.execute(insert(ModelNotesRow).values(empty).on_conflict_do_nothing(index_elements=[ModelNotesRow.model_id]))
        statement = select(ModelNotesRow).where(ModelNotesRow.model_id == model.id).with_for_update()
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one()
        try:
            row.tags = check_tags({key: value for key, value in row.tags.items() if key not in change.remove_tags} | change.set_tags)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        if change.notes is not None:
            row.notes = change.notes
        row.updated_at = (await self._session.execute(select(func.now()))).scalar_one()
        await self._session.flush()
        await self._audit.record(who, "model.annotate", "model", model.id, change.model_dump(mode="json", exclude_unset=True))
        return _notes(row)


def _notes(row: ModelNotesRow) -> ModelNotes:
    return ModelNotes(model_id=row.model_id, tags=row.tags, notes=row.notes, updated_at=row.updated_at)
