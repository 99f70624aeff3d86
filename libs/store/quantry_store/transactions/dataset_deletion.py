"""A dataset is deleted so that it can be restored, and lets go of its bytes only after a while."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from quantry_core.datasets import Dataset
from quantry_core.errors import Conflict, DatasetProtected
from quantry_core.jobs import JobSpec
from quantry_core.keys import Identity
from quantry_core.schedules import JobTemplate
from quantry_store.references import parse_ref
from quantry_store.transactions.inputs import dataset_refs, recipe_datasets
from quantry_store.transactions.schedule_templates import read_template
from quantry_store.unit_of_work import UnitOfWork


async def delete_dataset(uow: UnitOfWork, dataset_id: str, *, who: Identity) -> Dataset:
    """Returns the dataset, deleted: found by its id alone until it is restored. Again changes nothing.

    Versions that were made with it keep its name and digest. Raises UnknownDataset, or DatasetProtected if it is built in, an
    unfinished job uses it, living datasets were derived from it, or a schedule needs it.
    """
    dataset = await uow.dataset_deletions.hold(who.project_id, dataset_id)
    if dataset.deleted_at is not None:
        return dataset
    await uow.dataset_deletions.check_unused(dataset)
    await _check_schedules(uow, dataset)
    await uow.dataset_deletions.mark_deleted(dataset.id)
    await uow.audit.record(who, "dataset.delete", "dataset", dataset.id, _named(dataset))
    return await uow.datasets.get(who.project_id, dataset.id)


async def restore_dataset(uow: UnitOfWork, dataset_id: str, *, who: Identity) -> Dataset:
    """Returns the dataset, living again. Its bytes must have been looked for.

    Raises UnknownDataset, Conflict if it is not deleted or was removed, DatasetProtected if what it was derived from is deleted.
    """
    dataset = await uow.dataset_deletions.hold(who.project_id, dataset_id)
    if dataset.deleted_at is None:
        raise Conflict(f"dataset {dataset.ref} is not deleted")
    if dataset.removed_at is not None:
        raise Conflict(f"dataset {dataset.ref} was removed at {dataset.removed_at.isoformat()}; upload it again")
    await uow.dataset_deletions.check_parents(dataset)
    await uow.dataset_deletions.mark_restored(dataset.id)
    await uow.audit.record(who, "dataset.restore", "dataset", dataset.id, _named(dataset))
    return await uow.datasets.get(who.project_id, dataset.id)


async def remove_dataset(uow: UnitOfWork, dataset: Dataset, retention_s: float) -> bool:
    """Makes a dataset that was deleted ``retention_s`` seconds ago let go of its bytes; False if it was restored meanwhile."""
    await uow.dataset_deletions.hold(dataset.project_id, dataset.id)
    if not await uow.dataset_deletions.is_expired(dataset.id, retention_s):
        return False
    await uow.dataset_deletions.mark_removed(dataset.id)
    await uow.audit.record(None, "dataset.remove", "dataset", dataset.id, _named(dataset), project_id=dataset.project_id)
    return True


async def _check_schedules(uow: UnitOfWork, dataset: Dataset) -> None:
    """Raises DatasetProtected if a schedule names this very dataset, or its name while there is no other version of it."""
    is_last = await uow.dataset_deletions.is_last_of_name(dataset)
    for name, template in await uow.schedules.templates(dataset.project_id):
        for ref in _refs(template):
            if _needs(ref, dataset, is_last=is_last):
                raise DatasetProtected(f"schedule {name!r} needs {dataset.ref} as {ref!r}; change or delete that first")


def _refs(template: dict[str, object]) -> Iterator[str]:
    """Yields the datasets that a schedule's template names; none of one that this release cannot read, which fires no more."""
    try:
        parsed = read_template(template)
    except ValidationError:
        return
    specs: list[JobSpec] = (
        [parsed.submission.spec] if isinstance(parsed, JobTemplate) else [step.spec for step in parsed.submission.steps.values()]
    )
    for spec in specs:
        for refs in dataset_refs(spec).values():
            yield from refs
        yield from recipe_datasets(spec)


def _needs(ref: str, dataset: Dataset, *, is_last: bool) -> bool:
    if ref == dataset.id:
        return True
    name, number, alias = parse_ref(ref)
    if name != dataset.name or alias is not None:
        return False
    return is_last if number is None else number == dataset.number


def _named(dataset: Dataset) -> dict[str, str]:
    return {"ref": dataset.ref, "sha256": dataset.sha256}
