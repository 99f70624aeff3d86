"""What is not kept for ever."""

from __future__ import annotations

from quantry_store.unit_of_work import UnitOfWork

MAX_JOBS_PER_CLEAN_UP = 20
"""A child's log may be some ten thousand lines, so few jobs at a time keep the transaction short."""

MAX_ROWS_PER_CLEAN_UP = 1000
WORKER_UNSEEN_S = 7 * 24 * 3600.0
"""A worker that was not heard of for so long is forgotten."""


async def clean_up(
    uow: UnitOfWork, *, log_retention_s: float, key_retention_s: float, checkpoint_retention_s: float, traffic_retention_s: float
) -> int:
    """Returns how many rows were deleted or found to have nothing to delete: a bounded batch, so call it again until it is 0.

    Deleted are the log, the progress and the points of curves of jobs that ended ``log_retention_s`` seconds ago (where such a job
    went and what was noted of it stay), Idempotency-Keys of ``key_retention_s`` seconds ago, workers that were long not heard of,
    what checkpoints refer to in the vault where their job ended ``checkpoint_retention_s`` seconds ago without success, what gateways
    measured ``traffic_retention_s`` seconds ago, and captured prompts past the time that their deployment keeps them. Any number may
    run side by side.
    """
    num_events = await uow.events.delete_logs(log_retention_s, max_jobs=MAX_JOBS_PER_CLEAN_UP)
    num_keys = await uow.idempotency.delete_old(key_retention_s, limit=MAX_ROWS_PER_CLEAN_UP)
    num_workers = await uow.workers.delete_unseen(WORKER_UNSEEN_S, limit=MAX_ROWS_PER_CLEAN_UP)
    num_files = await uow.checkpoints.drop_old(checkpoint_retention_s, max_jobs=MAX_JOBS_PER_CLEAN_UP)
    num_windows = await uow.traffic.delete_old(traffic_retention_s, limit=MAX_ROWS_PER_CLEAN_UP)
    num_prompts = await uow.captures.delete_old(limit=MAX_ROWS_PER_CLEAN_UP)
    return num_events + num_keys + num_workers + num_files + num_windows + num_prompts
