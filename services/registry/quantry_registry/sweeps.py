"""What dead workers and dead registries left in the buckets is found and removed here, whatever else was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import structlog

from quantry_blobs.vault import Staging, Vault
from quantry_core.errors import QuantryError, Unavailable
from quantry_core.retention import Removed, RetentionKind, RetentionPart
from quantry_registry.parts import Parts
from quantry_registry.vault.removal import remove_object
from quantry_store.database import Database
from quantry_store.repositories.blobs import Blob
from quantry_store.unit_of_work import UnitOfWork
from quantry_telemetry.loops import Rounds, uncounted

_log = structlog.get_logger(__name__)

BATCH = 200


async def abandoned_attempts(database: Database, staging: Staging) -> list[tuple[str, int]]:
    """Returns what is staged of attempts that no longer hold their job: ended, lost, or of no known job."""
    # In this order: an attempt that begins after the listing is not in it, and nothing of it is removed.
    staged = await asyncio.to_thread(staging.attempts)
    async with database.begin() as uow:
        return sorted(staged - await uow.leases.held_attempts())


async def sweep_staging(database: Database, staging: Staging) -> int:
    """Removes what attempts staged that no longer hold their job. Returns their number."""
    abandoned = await abandoned_attempts(database, staging)
    for job_id, attempt in abandoned:
        num_objects = await asyncio.to_thread(staging.remove_attempt, job_id, attempt)
        _log.info("staging swept", job_id=job_id, attempt=attempt, num_objects=num_objects)
    return len(abandoned)


async def sweep_incoming(vault: Vault, max_age_s: float) -> int:
    """Removes what was left in the vault before it got its key. Returns the number of objects."""
    num_removed = await asyncio.to_thread(vault.sweep_incoming, max_age_s)
    if num_removed:
        _log.info("incoming swept", num_objects=num_removed)
    return num_removed


async def sweep_uploads(database: Database) -> int:
    """Removes uploads that have expired. Their bytes go with the next collection, unless a version has them too. Returns their number."""
    async with database.begin() as uow:
        expired = await uow.uploads.delete_expired()
        for upload_id, project_id in expired.items():
            await uow.audit.record(None, "upload.expire", "upload", upload_id, project_id=project_id)
    if expired:
        _log.info("uploads expired", upload_ids=sorted(expired))
    return len(expired)


async def sweep_checkpoints(database: Database, vault: Vault, age_s: float) -> int:
    """Removes what only checkpoints had that no job goes on from any more, sealed ``age_s`` seconds ago. Returns the number of blobs.

    The row goes first, as in a collection, and one at a time: what a registry that dies leaves behind is one object at most. An
    object that could not be removed is noted anew: a later round tries again. Raises Unavailable where store or database stay away.
    """
    return (await _sweep_blobs(database, vault, CHECKPOINTS, age_s)).num_removed


async def sweep_released(database: Database, vault: Vault, age_s: float) -> int:
    """Does the same with what versions let go of when their time in quarantine was over, and that nothing else has."""
    return (await _sweep_blobs(database, vault, RELEASED, age_s)).num_removed


class _Letting(NamedTuple):
    """Which blobs nobody needs any more: how to find them, and to forget the row of one that is still of that kind."""

    name: str
    find: Callable[[UnitOfWork, float, str], Awaitable[list[Blob]]]
    forget: Callable[[UnitOfWork, str, float], Awaitable[list[Blob]]]


CHECKPOINTS = _Letting(
    "checkpoint swept",
    lambda uow, age_s, after: uow.blobs.let_go(age_s, after=after, limit=BATCH),
    lambda uow, sha256, age_s: uow.blobs.forget_let_go([sha256], age_s),
)
RELEASED = _Letting(
    "released blob swept",
    lambda uow, age_s, after: uow.blobs.released(age_s, after=after, limit=BATCH),
    lambda uow, sha256, age_s: uow.blobs.forget_released([sha256], age_s),
)


async def _sweep_blobs(database: Database, vault: Vault, letting: _Letting, age_s: float) -> Removed:
    num_removed, size_bytes, cursor = 0, 0, ""
    while True:
        async with database.begin() as uow:
            batch = await letting.find(uow, age_s, cursor)
        if not batch:
            return Removed(num_removed, size_bytes)
        cursor = batch[-1].sha256
        for blob in batch:
            async with database.begin() as uow:
                gone = await letting.forget(uow, blob.sha256, age_s)
            if gone and await _remove_let_go(database, vault, blob):
                num_removed, size_bytes = num_removed + 1, size_bytes + blob.size_bytes
                _log.info(letting.name, sha256=blob.sha256, num_bytes=blob.size_bytes)


async def _remove_let_go(database: Database, vault: Vault, blob: Blob) -> bool:
    """Removes an object whose row went before, or notes it anew; returns whether it is gone."""
    try:
        is_removed = await remove_object(database, vault, blob)
    except Unavailable:
        await _note_left(database, vault, blob)
        raise
    if not is_removed:
        await _note_left(database, vault, blob)
    return is_removed


async def _note_left(database: Database, vault: Vault, blob: Blob) -> None:
    """Notes an object that its sweep left where it was, unless it is known to be gone: a request may be carried out unanswered."""
    with suppress(Unavailable):
        if not await asyncio.to_thread(vault.contains, blob.sha256, blob.size_bytes):
            return
    # A row that a seal made meanwhile stays what it is: of a version, too.
    async with database.begin() as uow:
        await uow.blobs.add_of_checkpoint({blob.sha256: blob.size_bytes})


async def sweep_all(database: Database, parts: Parts) -> None:
    """Takes every sweep once, and notes what was removed as a run of retention; nothing where nothing was."""
    removed = {
        RetentionKind.STAGED_ATTEMPTS: Removed(await sweep_staging(database, parts.staging)),
        RetentionKind.INCOMING: Removed(await sweep_incoming(parts.vault, parts.settings.incoming_max_age_s)),
        RetentionKind.UPLOADS: Removed(await sweep_uploads(database)),
    }
    of_checkpoints = await _sweep_blobs(database, parts.vault, CHECKPOINTS, parts.settings.checkpoint_min_age_s)
    released = await _sweep_blobs(database, parts.vault, RELEASED, parts.settings.collect_min_age_s)
    removed[RetentionKind.RELEASED_BLOBS] = Removed(
        of_checkpoints.num_removed + released.num_removed, of_checkpoints.size_bytes + released.size_bytes
    )
    told = {kind: gone for kind, gone in removed.items() if gone.num_removed}
    if told:
        async with database.begin() as uow:
            project_id = await uow.retention.runs.home()
            if project_id is not None:
                await uow.retention.runs.add_finished(project_id, RetentionPart.REGISTRY, told)


async def run_sweeps(database: Database, parts: Parts, rounds: Rounds = uncounted) -> None:
    """Sweeps now and every ``registry_sweep_interval_s`` until cancelled; ``rounds`` counts. A part that is away costs one round."""
    while True:
        try:
            with rounds("sweeps"):
                await sweep_all(database, parts)
        except QuantryError as error:
            _log.warning("sweep failed", error=error.detail)
        except Exception:  # whatever broke this round, the next one must still come
            _log.exception("sweep crashed")
        await asyncio.sleep(parts.settings.registry_sweep_interval_s)
