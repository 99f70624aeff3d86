"""Models: named lines of versions."""

from __future__ import annotations

import builtins
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Row, Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import Conflict, ModelExists, UnknownModel
from quantry_core.ids import IdPrefix, new_id
from quantry_core.model_views import AliasTarget, ListedModel
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.versions import Model, VersionState
from quantry_store.references import choices, require_name
from quantry_store.repositories.paging import load_page
from quantry_store.tables import AliasRow, ModelRow, VersionRow


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

    async def list(
        self, project_id: str, *, text: str | None = None, after: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[ListedModel]:
        """Returns a page of a project's models, newest first. ``text``: part of the name, whatever its case."""
        statement = _listed(project_id)
        if text is not None:
            statement = statement.where(ModelRow.name.icontains(text, autoescape=True))
        page = await load_page(self._session, statement, ModelRow.id, _listed_model, after=after, limit=limit)
        aliases = await self._aliases([model.id for model in page.data])
        return page.model_copy(update={"data": [model.model_copy(update={"aliases": aliases.get(model.id, [])}) for model in page.data]})

    async def get_or_create(self, project_id: str, name: str) -> Model:
        """Returns the model of that name, made if there is none; raises InvalidName."""
        row = {"id": new_id(IdPrefix.MODEL), "project_id": project_id, "name": require_name(name), "last_number": 0}
        await self._session.execute(
            insert(ModelRow).values(row).on_conflict_do_nothing(index_elements=[ModelRow.project_id, ModelRow.name])
        )
        return await self.get(project_id, name)

    async def add(self, project_id: str, name: str) -> Model:
        """Returns a new model without versions; raises InvalidName, or ModelExists."""
        row = {"id": new_id(IdPrefix.MODEL), "project_id": project_id, "name": require_name(name), "last_number": 0}
        statement = insert(ModelRow).values(row).on_conflict_do_nothing(index_elements=[ModelRow.project_id, ModelRow.name])
        made = await self._session.scalars(statement.returning(ModelRow.id))
        if made.one_or_none() is None:
            raise ModelExists(f"there is a model {name!r} already")
        return await self.get(project_id, name)

    async def remove_unused(self, model: Model) -> None:
        """Removes a model that never had a version; raises Conflict for any other, whose numbers and history must not come back."""
        statement = delete(ModelRow).where(ModelRow.id == model.id, ModelRow.last_number == 0).returning(ModelRow.id)
        gone = await self._session.scalars(statement.execution_options(synchronize_session=False))
        if gone.one_or_none() is None:
            raise Conflict(
                f"model {model.name!r} has had versions, and their lineage and numbers are kept: a model goes only while it never had "
                "one. Delete its versions one by one (quantry versions delete), and the model stays, empty"
            )

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

    async def _aliases(self, model_ids: Sequence[str]) -> dict[str, builtins.list[AliasTarget]]:
        rows = await self._session.execute(
            select(AliasRow.model_id, AliasRow.alias, VersionRow.number)
            .join(VersionRow, VersionRow.id == AliasRow.version_id)
            .where(AliasRow.model_id.in_(model_ids))
            .order_by(AliasRow.alias)
        )
        found: dict[str, builtins.list[AliasTarget]] = defaultdict(builtins.list)
        for model_id, alias, number in rows:
            found[model_id].append(AliasTarget(alias=alias, number=number))
        return found


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


def _listed(project_id: str) -> Select[ModelRow, int, str, int | None, int, int]:
    living = (VersionRow.model_id == ModelRow.id, VersionRow.deleted_at.is_(None))
    newest = select(VersionRow.number).where(*living).order_by(VersionRow.number.desc()).limit(1).scalar_subquery()
    is_held_back = VersionRow.state == VersionState.QUARANTINED
    num_quarantined = select(func.count()).where(*living, is_held_back).scalar_subquery()
    size_bytes = select(func.coalesce(func.sum(VersionRow.size_bytes), 0)).where(*living).scalar_subquery()
    return _models(project_id).add_columns(newest, num_quarantined, size_bytes)


def _listed_model(found: Row[ModelRow, int, str, int | None, int, int]) -> ListedModel:
    row, num_versions, latest_version_id, latest_number, num_quarantined, size_bytes = found
    model = _model(row, num_versions, latest_version_id)
    return ListedModel(**dict(model), latest_number=latest_number, num_quarantined=num_quarantined, size_bytes=int(size_bytes))
