"""Models: named lines of versions."""

from __future__ import annotations

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownModel
from quantry_core.ids import IdPrefix, new_id
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.versions import Model
from quantry_store.references import choices, require_name
from quantry_store.repositories.paging import load_page
from quantry_store.tables import ModelRow, VersionRow


class ModelRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, project_id: str, name: str) -> Model:
        """Returns a model; raises InvalidName, or UnknownModel naming the ones there are."""
        statement = _models(project_id).where(ModelRow.name == require_name(name))
        row = (await self._session.execute(statement)).one_or_none()
        if row is None:
            known = await self._session.scalars(select(ModelRow.name).where(ModelRow.project_id == project_id).order_by(ModelRow.name))
            raise UnknownModel(f"there is no model {name!r}; {choices(known.all(), of='models')}")
        return _model(*row)

    async def list(self, project_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Model]:
        """Returns a page of a project's models, newest first."""
        return await load_page(self._session, _models(project_id), ModelRow.id, lambda row: _model(*row), after=after, limit=limit)

    async def get_or_create(self, project_id: str, name: str) -> Model:
        """Returns the model of that name, made if there is none; raises InvalidName."""
        row = {"id": new_id(IdPrefix.MODEL), "project_id": project_id, "name": require_name(name), "last_number": 0}
        await self._session.execute(
            insert(ModelRow).values(row).on_conflict_do_nothing(index_elements=[ModelRow.project_id, ModelRow.name])
        )
        return await self.get(project_id, name)

    async def next_number(self, model_id: str) -> int:
        """Returns the next version number of a model, its row locked until the transaction ends. Numbers are never used again."""
        numbered = await self._session.scalars(
            update(ModelRow)
            .where(ModelRow.id == model_id)
            .values(last_number=ModelRow.last_number + 1)
            .returning(ModelRow.last_number)
            .execution_options(synchronize_session=False)
        )
        return numbered.one()


def _models(project_id: str) -> Select[ModelRow, int, str]:
    living = (VersionRow.model_id == ModelRow.id, VersionRow.deleted_at.is_(None))
    num_versions = select(func.count()).where(*living).scalar_subquery()
    latest = select(VersionRow.id).where(*living).order_by(VersionRow.number.desc()).limit(1).scalar_subquery()
    return select(ModelRow, num_versions, latest).where(ModelRow.project_id == project_id)


def _model(row: ModelRow, num_versions: int, latest_version_id: str | None) -> Model:
    return Model(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        created_at=row.created_at,
        num_versions=num_versions,
        latest_version_id=latest_version_id,
    )
