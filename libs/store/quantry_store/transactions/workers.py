"""A worker says that it is there."""

from __future__ import annotations

from quantry_core.workers import WorkerHello
from quantry_store.unit_of_work import UnitOfWork


async def save_worker(uow: UnitOfWork, worker_id: str, hello: WorkerHello, *, project_id: str, key_id: str | None = None) -> None:
    """Notes what a worker says of itself, and that it was heard of now. ``project_id`` is that of its key, ``key_id``."""
    await uow.workers.save(worker_id, hello, project_id=project_id, key_id=key_id)
