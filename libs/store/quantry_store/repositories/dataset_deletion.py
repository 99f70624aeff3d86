"""Deleting datasets, restoring them, and making them let go of their bytes for good."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.datasets import Dataset, DatasetOrigin, Derivation
from quantry_core.errors import DatasetProtected, UnknownDataset
from quantry_store.repositories.datasets import DatasetRepository, to_dataset
from quantry_store.repositories.open_jobs import is_open_in
from quantry_store.tables import DatasetRow, JobRow


class DatasetDeletionRepository:
    def __init__(self, session: AsyncSession, *, datasets: DatasetRepository) -> None:
        self._session = session
        self._datasets = datasets

    async def hold(self, project_id: str, dataset_id: str) -> Dataset:
        """Returns a dataset, deleted or not, its row locked until the transaction ends; raises UnknownDataset."""
        statement = select(DatasetRow.id).where(DatasetRow.id == dataset_id, DatasetRow.project_id == project_id).with_for_update()
        await self._session.execute(statement)
        return await self._datasets.get(project_id, dataset_id)

    async def check_unused(self, dataset: Dataset) -> None:
        """Raises DatasetProtected if it is the platform's own, an unfinished job uses it, or living datasets were derived from it."""
        if dataset.origin is DatasetOrigin.BUILT_IN:
            raise DatasetProtected(f"{dataset.ref} is the platform's own")
        uses_it = or_(
            JobRow.inputs.contains([{"dataset_id": dataset.id}]),
            # Of a merge: what its recipe names is used by the job that follows it.
            JobRow.spec.contains({"quantize": {"calibration": {"datasets": [dataset.id]}}}),
            JobRow.spec.contains({"quantize": {"quality": {"corpora": [dataset.id]}}}),
        )
        job_id = (await self._session.scalars(select(JobRow.id).where(is_open_in(dataset.project_id), uses_it).limit(1))).one_or_none()
        if job_id is not None:
            raise DatasetProtected(f"job {job_id} still uses {dataset.ref}; wait for it or cancel it")
        children = select(DatasetRow).where(
            DatasetRow.project_id == dataset.project_id,
            DatasetRow.deleted_at.is_(None),
            DatasetRow.derivation.contains({"parents": [{"id": dataset.id}]}),
        )
        child = (await self._session.scalars(children.order_by(DatasetRow.id).limit(1))).one_or_none()
        if child is not None:
            raise DatasetProtected(f"{to_dataset(child).ref} was derived from {dataset.ref}; delete that first")

    async def check_parents(self, dataset: Dataset) -> None:
        """Raises DatasetProtected if what it was derived from is deleted; keeps those from deletion until the transaction ends."""
        for parent in [] if dataset.derivation is None else Derivation.model_validate(dataset.derivation).parents:
            try:
                await self._datasets.hold(parent.id)
            except UnknownDataset as error:
                raise DatasetProtected(f"{dataset.ref} was derived from what is deleted: {error.detail}") from None

    async def is_last_of_name(self, dataset: Dataset) -> bool:
        """Tells whether there is no other living version under a dataset's name."""
        others = select(DatasetRow.id).where(
            DatasetRow.project_id == dataset.project_id,
            DatasetRow.name == dataset.name,
            DatasetRow.deleted_at.is_(None),
            DatasetRow.id != dataset.id,
        )
        return (await self._session.scalars(others.limit(1))).one_or_none() is None

    async def mark_deleted(self, dataset_id: str) -> None:
        """Hides a dataset; its bytes are kept."""
        await self._mark(dataset_id, deleted_at=func.now())

    async def mark_restored(self, dataset_id: str) -> None:
        """Shows a dataset again."""
        await self._mark(dataset_id, deleted_at=None)

    async def mark_removed(self, dataset_id: str) -> None:
        """Makes a deleted dataset let go of its bytes; name, number and digest stay."""
        await self._mark(dataset_id, removed_at=func.now())

    async def expired(self, retention_s: float, *, after: str, limit: int) -> list[Dataset]:
        """Returns the next datasets by id after ``after``, of every project, that were deleted ``retention_s`` seconds ago and still
        keep their bytes."""
        statement = select(DatasetRow).where(DatasetRow.id > after, *_is_expired(retention_s)).order_by(DatasetRow.id).limit(limit)
        return [to_dataset(row) for row in await self._session.scalars(statement)]

    async def is_expired(self, dataset_id: str, retention_s: float) -> bool:
        """Tells whether a dataset is one of those that ``expired`` returns."""
        statement = select(DatasetRow.id).where(DatasetRow.id == dataset_id, *_is_expired(retention_s))
        return (await self._session.scalars(statement)).one_or_none() is not None

    async def _mark(self, dataset_id: str, **values: object) -> None:
        statement = update(DatasetRow).where(DatasetRow.id == dataset_id).values(**values)
        await self._session.execute(statement.execution_options(synchronize_session=False))
        self._session.expire_all()


def _is_expired(retention_s: float) -> list[ColumnElement[bool]]:
    return [DatasetRow.removed_at.is_(None), DatasetRow.deleted_at < func.now() - timedelta(seconds=retention_s)]
