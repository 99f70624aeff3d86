"""Aliases, and where they pointed before."""

from __future__ import annotations

import builtins
from datetime import datetime

from sqlalchemy import DateTime, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.aliases import Alias, AliasChange
from quantry_core.errors import Conflict, InvalidName, NotFound, UnknownVersion
from quantry_core.keys import Identity
from quantry_core.names import is_number
from quantry_core.versions import Model, VersionState
from quantry_store.references import choices, require_name
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.models import ModelRepository
from quantry_store.tables import AliasChangeRow, AliasRow, ModelRow, VersionRow

MAX_HISTORY = 1000


class AliasRepository:
    def __init__(self, session: AsyncSession, *, models: ModelRepository, audit: AuditRepository) -> None:
        self._session = session
        self._models = models
        self._audit = audit

    async def get(self, project_id: str, model: str, alias: str) -> Alias:
        """Returns where an alias points; raises InvalidName, UnknownModel, or NotFound naming the aliases there are."""
        found = await self._models.get(project_id, model)
        row = await self._row(found, require_name(alias))
        if row is None:
            names = [item.alias for item in await self.list(project_id, model)]
            raise NotFound(f"model {model!r} has no alias {alias!r}; {choices(names, of='aliases')}")
        return _alias(row, found.name)

    async def at(self, project_id: str, model: str, alias: str, moment: datetime) -> Alias:
        """Returns where an alias pointed at a moment, and since when; the version may have been deleted since then.

        Raises InvalidName, UnknownModel, or NotFound if it pointed nowhere then.
        """
        found = await self._models.get(project_id, model)
        moves = select(AliasChangeRow).where(AliasChangeRow.model_id == found.id, AliasChangeRow.alias == require_name(alias))
        newest = moves.where(AliasChangeRow.created_at <= moment).order_by(AliasChangeRow.id.desc()).limit(1)
        row = (await self._session.scalars(newest)).one_or_none()
        if row is not None and row.version_id is not None:
            return Alias(model_name=found.name, alias=row.alias, version_id=row.version_id, updated_at=row.created_at)
        if row is not None:
            since = f"it was deleted at {row.created_at.isoformat()}"
        else:
            first = (await self._session.scalars(moves.order_by(AliasChangeRow.id).limit(1))).one_or_none()
            since = "it was never set" if first is None else f"it was first set at {first.created_at.isoformat()}"
        raise NotFound(f"model {model!r} had no alias {alias!r} at {moment.isoformat()}; {since}")

    async def list(self, project_id: str, model: str) -> builtins.list[Alias]:
        """Returns a model's aliases by name; raises UnknownModel."""
        found = await self._models.get(project_id, model)
        rows = await self._session.scalars(select(AliasRow).where(AliasRow.model_id == found.id).order_by(AliasRow.alias))
        return [_alias(row, found.name) for row in rows]

    async def move(self, project_id: str, model: str, alias: str, version_id: str, who: Identity) -> Alias:
        """Returns the alias, pointing at ``version_id`` from now on; a move to where it points already changes nothing.

        Raises InvalidName, UnknownModel, UnknownVersion if the version is not one of this model, Conflict if it is not ready.
        """
        if is_number(require_name(alias)):
            raise InvalidName(f"an alias cannot be a number, {model}@{alias} already means a version number: {alias!r}")
        found = await self._hold_model(project_id, model)
        await self._check_target(found, version_id)
        row = await self._row(found, alias)
        if row is not None and row.version_id == version_id:
            return _alias(row, found.name)
        previous = row.version_id if row is not None else None
        moved_at = await self._now()
        values = {"model_id": found.id, "alias": alias, "project_id": project_id, "version_id": version_id, "updated_at": moved_at}
        await self._session.execute(
            insert(AliasRow)
            .values(values)
            .on_conflict_do_update(
                index_elements=[AliasRow.model_id, AliasRow.alias], set_={"version_id": version_id, "updated_at": moved_at}
            )
        )
        change = {"alias": alias, "version_id": version_id, "previous_version_id": previous}
        self._session.add(AliasChangeRow(project_id=project_id, model_id=found.id, key_id=who.key_id, created_at=moved_at, **change))
        await self._audit.record(who, "alias.move", "model", found.id, change)
        return await self.get(project_id, model, alias)

    async def delete(self, project_id: str, model: str, alias: str, who: Identity) -> None:
        """Deletes an alias; where it pointed before stays known. Raises as ``get`` does where there is none."""
        found = await self._hold_model(project_id, model)
        gone = await self.get(project_id, model, alias)
        await self._session.execute(delete_from(AliasRow).where(AliasRow.model_id == found.id, AliasRow.alias == alias))
        change = {"alias": alias, "version_id": None, "previous_version_id": gone.version_id}
        deleted_at = await self._now()
        self._session.add(AliasChangeRow(project_id=project_id, model_id=found.id, key_id=who.key_id, created_at=deleted_at, **change))
        await self._audit.record(who, "alias.delete", "model", found.id, change)

    async def history(self, project_id: str, model: str, alias: str) -> builtins.list[AliasChange]:
        """Returns the moves of an alias and its deletions, newest first; raises UnknownModel. Empty if it never was."""
        found = await self._models.get(project_id, model)
        rows = await self._session.scalars(
            select(AliasChangeRow)
            .where(AliasChangeRow.model_id == found.id, AliasChangeRow.alias == require_name(alias))
            .order_by(AliasChangeRow.id.desc())
            .limit(MAX_HISTORY)
        )
        return [
            AliasChange(
                alias=row.alias,
                version_id=row.version_id,
                previous_version_id=row.previous_version_id,
                key_id=row.key_id,
                created_at=row.created_at,
            )
            for row in rows
        ]

    async def _hold_model(self, project_id: str, model: str) -> Model:
        """Returns a model, its row locked: that serialises what happens to its aliases, so no two changes begin at the same place."""
        found = await self._models.get(project_id, model)
        await self._session.execute(select(ModelRow.id).where(ModelRow.id == found.id).with_for_update(key_share=True))
        return found

    async def _now(self) -> datetime:
        """Returns the time now, not that of the transaction's beginning: another may have begun later and moved the alias before."""
        return (await self._session.execute(select(func.clock_timestamp(type_=DateTime(timezone=True))))).scalar_one()

    async def _row(self, model: Model, alias: str) -> AliasRow | None:
        statement = select(AliasRow).where(AliasRow.model_id == model.id, AliasRow.alias == alias)
        return (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()

    async def _check_target(self, model: Model, version_id: str) -> None:
        statement = select(VersionRow).where(VersionRow.id == version_id, VersionRow.model_id == model.id)
        row = (await self._session.scalars(statement.with_for_update(read=True, key_share=True))).one_or_none()
        if row is None:
            raise UnknownVersion(f"model {model.name!r} has no version {version_id!r}")
        if row.state is not VersionState.READY:
            raise Conflict(f"{model.name}@{row.number} is {row.state}; an alias points at a ready version")


def _alias(row: AliasRow, model_name: str) -> Alias:
    return Alias(model_name=model_name, alias=row.alias, version_id=row.version_id, updated_at=row.updated_at)
