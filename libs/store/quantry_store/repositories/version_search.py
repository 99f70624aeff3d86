"""Versions found by what they are and what is written about them, and what they take in the vault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from quantry_core.jobs import Operator, Requirement
from quantry_core.methods import Format
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.vault_usage import ModelUsage, VaultUsage
from quantry_core.version_notes import ListedVersion
from quantry_core.versions import VersionKind, VersionState
from quantry_store.repositories.labels import label_conditions
from quantry_store.repositories.models import ModelRepository
from quantry_store.repositories.paging import load_page
from quantry_store.repositories.version_rows import to_version
from quantry_store.tables import LineageEdgeRow, ModelRow, VersionFileRow, VersionNotesRow, VersionRow


@dataclass(frozen=True)
class VersionQuery:
    """What to look for; all of it must hold. None: anything."""

    model: str | None = None
    kind: VersionKind | None = None
    state: VersionState | None = None
    scheme: str | None = None
    format: Format | None = None
    license: str | None = None
    tags: Sequence[Requirement] = field(default_factory=tuple)
    text: str | None = None
    """Part of the model's name or of the notes, whatever its case."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    min_size_bytes: int | None = None
    max_size_bytes: int | None = None
    dataset_id: str | None = None
    """Made with it: calibrated, trained or held out."""


EVERYTHING = VersionQuery()


class VersionSearchRepository:
    def __init__(self, session: AsyncSession, *, models: ModelRepository) -> None:
        self._session = session
        self._models = models

    async def page(
        self, project_id: str, query: VersionQuery = EVERYTHING, *, after: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[ListedVersion]:
        """Returns a page of a project's versions that fit, newest first, deleted ones left out; raises UnknownModel, InvalidName."""
        statement = _listed(project_id)
        if query.model is not None:
            statement = statement.where(VersionRow.model_id == (await self._models.get(project_id, query.model)).id)
        return await load_page(
            self._session,
            statement.where(*_conditions(query)),
            VersionRow.id,
            lambda row: _listed_version(*row),
            after=after,
            limit=limit,
        )

    async def usage(self, project_id: str) -> VaultUsage:
        """Returns what a project's versions take in the vault, equal bytes counted once; deleted versions left out."""
        files = (
            select(VersionRow.model_id, VersionFileRow.sha256, VersionFileRow.size_bytes)
            .join(VersionRow, VersionRow.id == VersionFileRow.version_id)
            .where(VersionRow.project_id == project_id, VersionRow.deleted_at.is_(None), VersionFileRow.released_at.is_(None))
            .cte("files")
        )
        by_model = select(files.c.model_id, func.sum(files.c.size_bytes).label("bytes")).group_by(files.c.model_id).subquery()
        distinct = select(files.c.model_id, files.c.sha256, files.c.size_bytes).distinct().subquery()
        stored = select(distinct.c.model_id, func.sum(distinct.c.size_bytes).label("bytes")).group_by(distinct.c.model_id).subquery()
        count = (
            select(func.count()).where(VersionRow.model_id == ModelRow.id, VersionRow.deleted_at.is_(None)).correlate(ModelRow)
        ).scalar_subquery()
        rows = await self._session.execute(
            select(ModelRow.name, count, by_model.c.bytes, stored.c.bytes)
            .join(by_model, by_model.c.model_id == ModelRow.id)
            .join(stored, stored.c.model_id == ModelRow.id)
            .order_by(ModelRow.name)
        )
        models = [
            ModelUsage(
                model_name=name,
                num_versions=num_versions,
                logical_bytes=int(logical),
                stored_bytes=int(kept),
                saved_bytes=int(logical) - int(kept),
            )
            for name, num_versions, logical, kept in rows
        ]
        once = select(files.c.sha256, files.c.size_bytes).distinct().subquery()
        in_all = int(await self._session.scalar(select(func.coalesce(func.sum(once.c.size_bytes), 0))) or 0)
        logical_bytes = sum(model.logical_bytes for model in models)
        return VaultUsage(
            num_versions=sum(model.num_versions for model in models),
            logical_bytes=logical_bytes,
            stored_bytes=in_all,
            saved_bytes=logical_bytes - in_all,
            models=models,
        )


def _listed(project_id: str) -> Select[VersionRow, str, dict[str, str] | None, str | None, int]:
    file, other = aliased(VersionFileRow), aliased(VersionFileRow)
    other_version = aliased(VersionRow)
    is_shared = (
        exists()
        .where(other.kept_sha256 == file.kept_sha256, other.version_id != VersionRow.id, other.version_id == other_version.id)
        .where(other_version.project_id == VersionRow.project_id, other_version.deleted_at.is_(None))
        .correlate(file, VersionRow)
    )
    shared = select(func.coalesce(func.sum(file.size_bytes), 0)).where(file.version_id == VersionRow.id, is_shared).scalar_subquery()
    return (
        select(VersionRow, ModelRow.name, VersionNotesRow.tags, VersionNotesRow.notes, shared)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
        .outerjoin(VersionNotesRow, VersionNotesRow.version_id == VersionRow.id)
        .where(VersionRow.project_id == project_id, VersionRow.deleted_at.is_(None))
    )


def _conditions(query: VersionQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    equals = (
        (VersionRow.kind, query.kind),
        (VersionRow.state, query.state),
        (VersionRow.scheme, query.scheme),
        (VersionRow.format, query.format),
    )
    conditions += [column == value for column, value in equals if value is not None]
    if query.license is not None:
        conditions.append(func.lower(func.jsonb_extract_path_text(VersionRow.card, "license")) == query.license.lower())
    if query.text is not None:
        conditions.append(
            or_(ModelRow.name.icontains(query.text, autoescape=True), VersionNotesRow.notes.icontains(query.text, autoescape=True))
        )
    if query.created_after is not None:
        conditions.append(VersionRow.created_at >= query.created_after)
    if query.created_before is not None:
        conditions.append(VersionRow.created_at < query.created_before)
    if query.min_size_bytes is not None:
        conditions.append(VersionRow.size_bytes >= query.min_size_bytes)
    if query.max_size_bytes is not None:
        conditions.append(VersionRow.size_bytes <= query.max_size_bytes)
    if query.dataset_id is not None:
        made_with = select(LineageEdgeRow.child_version_id).where(LineageEdgeRow.parent_dataset_id == query.dataset_id)
        conditions.append(VersionRow.id.in_(made_with))
    return conditions + [_tag_condition(tag) for tag in query.tags]


def _tag_condition(tag: Requirement) -> ColumnElement[bool]:
    (condition,) = label_conditions(VersionNotesRow.tags, [tag])
    if tag.operator in {Operator.NOT_EQUAL, Operator.ABSENT}:
        # Nothing is written about it, so it has no tags at all.
        return or_(condition, VersionNotesRow.version_id.is_(None))
    return condition


def _listed_version(row: VersionRow, model_name: str, tags: dict[str, str] | None, notes: str | None, shared_bytes: int) -> ListedVersion:
    version = to_version(row, model_name)
    return ListedVersion(**dict(version), tags=tags or {}, notes=notes or "", shared_bytes=shared_bytes)
