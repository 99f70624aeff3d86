"""``/api/v1/datasets/{id}``: deleting a dataset, and taking it back."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path

from quantry_core.datasets import Dataset
from quantry_core.errors import Conflict
from quantry_core.ids import IdPrefix
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.parts import PartsOf
from quantry_store.transactions.dataset_deletion import delete_dataset as delete
from quantry_store.transactions.dataset_deletion import restore_dataset as restore

router = APIRouter(prefix="/datasets", tags=["datasets"])

DatasetId = Annotated[
    str, Path(pattern=rf"^{IdPrefix.DATASET}_[0-9a-f]{{32}}$", description="An id alone: what a name means may change in between.")
]


@router.delete("/{dataset_id}", status_code=204, responses=problem_responses(404, 409))
async def delete_dataset(caller: Caller, database: Db, dataset_id: DatasetId) -> None:
    """Deletes a dataset that nothing needs. Its id still finds it, and it can be restored until the collection frees its bytes."""
    async with database.begin() as uow:
        await delete(uow, dataset_id, who=caller)


@router.post("/{dataset_id}/restore", responses=problem_responses(404, 409))
async def restore_dataset(caller: Caller, database: Db, parts: PartsOf, dataset_id: DatasetId) -> Dataset:
    """Brings a deleted dataset back, if its bytes are still there."""
    async with database.begin() as uow:
        dataset = await uow.datasets.get(caller.project_id, dataset_id)
    # Its row holds its blob until it is removed, which is looked at once more: what is found now stays.
    if not await asyncio.to_thread(parts.vault.contains, dataset.sha256, dataset.size_bytes):
        raise Conflict(f"the vault has lost {dataset.sha256} ({dataset.ref}); restore it from a copy of the bucket")
    async with database.begin() as uow:
        return await restore(uow, dataset_id, who=caller)
