"""Datasets: versioned, digested texts and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.datasets import Dataset, DatasetKind, DatasetOrigin, DatasetStatistics, FilePurpose
from quantry_core.errors import Conflict, DatasetDeleted, UnknownDataset
from quantry_core.ids import IdPrefix, is_id, new_id
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_store.references import choices, parse_ref, require_name
from quantry_store.repositories.blobs import BlobRepository
from quantry_store.repositories.paging import load_page
from quantry_store.tables import DatasetRow, ProjectRow


class Stored(Protocol):
    """What the vault says about bytes it took in."""

    @property
    def sha256(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...


@dataclass(frozen=True)
class DatasetDraft:
    """What is known of bytes that become a dataset."""

    kind: DatasetKind
    origin: DatasetOrigin
    statistics: DatasetStatistics
    derivation: dict[str, Any] | None = None
    purpose: FilePurpose | None = None


@dataclass(frozen=True)
class DatasetQuery:
    """What to look for; all of it must hold. None: anything."""

    kind: DatasetKind | None = None
    origin: DatasetOrigin | None = None
    text: str | None = None
    """Part of the name, whatever its case."""


class DatasetRepository:
    def __init__(self, session: AsyncSession, *, blobs: BlobRepository) -> None:
        self._session = session
        self._blobs = blobs

    async def get(self, project_id: str, dataset_id: str) -> Dataset:
        """Returns a dataset by its id, a deleted one too; raises UnknownDataset."""
        statement = select(DatasetRow).where(DatasetRow.id == dataset_id, DatasetRow.project_id == project_id)
        row = (await self._session.scalars(statement)).one_or_none()
        if row is None:
            raise UnknownDataset(f"there is no dataset {dataset_id!r}")
        return to_dataset(row)

    async def resolve(self, project_id: str, ref: str) -> Dataset:
        """Returns the dataset that ``dat_...``, ``name@3`` or ``name`` (the highest number) means, none that is deleted.

        Raises InvalidName, or UnknownDataset naming what there is.
        """
        if is_id(ref, IdPrefix.DATASET):
            dataset = await self.get(project_id, ref)
            if dataset.deleted_at is not None:
                raise UnknownDataset(_deleted(dataset))
            return dataset
        name, number, alias = parse_ref(ref)
        if alias is not None:
            raise UnknownDataset(f"datasets have no aliases: write {name} or {name}@<number>, not {ref!r}")
        rows = await self._session.scalars(_living(project_id).where(DatasetRow.name == name).order_by(DatasetRow.number.desc()))
        versions = rows.all()
        if not versions:
            known = await self._session.scalars(_living(project_id).with_only_columns(DatasetRow.name).distinct().order_by(DatasetRow.name))
            raise UnknownDataset(f"there is no dataset {name!r}; {choices(known.all(), of='datasets')}")
        if number is None:
            return to_dataset(versions[0])
        for row in versions:
            if row.number == number:
                return to_dataset(row)
        raise UnknownDataset(f"dataset {name!r} has no number {number}; {choices([row.number for row in versions], of='numbers')}")

    async def list(
        self, project_id: str, query: DatasetQuery | None = None, *, after: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[Dataset]:
        """Returns a page of a project's datasets that fit, newest first."""
        statement = _living(project_id).where(*_conditions(query or DatasetQuery()))
        return await load_page(self._session, statement, DatasetRow.id, lambda row: to_dataset(row[0]), after=after, limit=limit)

    async def list_files(self, project_id: str, purpose: FilePurpose | None, *, after: str | None, limit: int) -> Page[Dataset]:
        """Returns a page of the datasets that OpenAI's API lists as files for a purpose, newest first; of all without one."""
        statement = _living(project_id)
        if purpose is not None:
            statement = statement.where(func.coalesce(DatasetRow.purpose, FilePurpose.USER_DATA) == purpose)
        return await load_page(self._session, statement, DatasetRow.id, lambda row: to_dataset(row[0]), after=after, limit=limit)

    async def add(self, project_id: str, name: str, stored: Stored, draft: DatasetDraft) -> tuple[Dataset, bool]:
        """Returns the dataset with these bytes under this name, and whether it is new: then it has the next number.

        The bytes must be in the vault already; ``draft`` says what they are, and its purpose replaces one that was said before.
        Raises InvalidName, Conflict where the name has these bytes as another kind, or DatasetDeleted where it has them as a version
        that is deleted and can be restored.
        """
        require_name(name)
        # The project's row serialises the numbering of its datasets; key_share leaves foreign keys to it free.
        await self._session.execute(select(ProjectRow.id).where(ProjectRow.id == project_id).with_for_update(key_share=True))
        same_name = (DatasetRow.project_id == project_id, DatasetRow.name == name)
        same_bytes = select(DatasetRow).where(*same_name, DatasetRow.kept_sha256 == stored.sha256)
        same = (await self._session.scalars(same_bytes)).one_or_none()
        if same is not None:
            if same.deleted_at is not None:
                raise DatasetDeleted(f"{_deleted(to_dataset(same))}; it has these very bytes", dataset_id=same.id)
            if same.kind is not draft.kind:
                raise Conflict(f"{name}@{same.number} has these very bytes as kind {same.kind}, not {draft.kind}; choose another name")
            same.purpose = draft.purpose or same.purpose
            return to_dataset(same), False
        await self._blobs.add({stored.sha256: stored.size_bytes})
        highest = (await self._session.scalars(select(func.max(DatasetRow.number)).where(*same_name))).one()
        row = DatasetRow(
            id=new_id(IdPrefix.DATASET),
            project_id=project_id,
            name=name,
            number=(highest or 0) + 1,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            kind=draft.kind,
            origin=draft.origin,
            num_rows=draft.statistics.num_rows,
            statistics=draft.statistics.model_dump(mode="json"),
            derivation=draft.derivation,
            purpose=draft.purpose,
        )
        self._session.add(row)
        await self._session.flush()
        return to_dataset(row), True

    async def hold(self, dataset_id: str) -> None:
        """Keeps a dataset from being deleted until the transaction ends; raises UnknownDataset if it is deleted."""
        held = select(DatasetRow).where(DatasetRow.id == dataset_id).with_for_update(read=True, key_share=True)
        row = (await self._session.scalars(held, execution_options={"populate_existing": True})).one()
        if row.deleted_at is not None:
            raise UnknownDataset(_deleted(to_dataset(row)))

    async def projects_without(self, name: str, sha256: str) -> Sequence[str]:
        """Returns the ids of the projects that have no dataset of that name with these bytes."""
        has_it = exists().where(DatasetRow.project_id == ProjectRow.id, DatasetRow.name == name, DatasetRow.sha256 == sha256)
        return (await self._session.scalars(select(ProjectRow.id).where(~has_it).order_by(ProjectRow.id))).all()


def _living(project_id: str) -> Select[DatasetRow]:
    return select(DatasetRow).where(DatasetRow.project_id == project_id, DatasetRow.deleted_at.is_(None))


def _conditions(query: DatasetQuery) -> Sequence[ColumnElement[bool]]:
    equals = ((DatasetRow.kind, query.kind), (DatasetRow.origin, query.origin))
    conditions = [column == value for column, value in equals if value is not None]
    return conditions if query.text is None else [*conditions, DatasetRow.name.icontains(query.text, autoescape=True)]


def _deleted(dataset: Dataset) -> str:
    if dataset.removed_at is not None:
        return f"dataset {dataset.ref} was removed at {dataset.removed_at.isoformat()}; upload it again"
    return f"dataset {dataset.ref} is deleted; restore it: quantry datasets restore {dataset.id}"


def to_dataset(row: DatasetRow) -> Dataset:
    """Returns a dataset as it is shown."""
    return Dataset(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        number=row.number,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        kind=row.kind,
        origin=row.origin,
        statistics=DatasetStatistics.model_validate(row.statistics),
        derivation=row.derivation,
        purpose=row.purpose,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
        removed_at=row.removed_at,
    )
