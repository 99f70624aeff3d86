"""The seal of a training job's checkpoint: whatever the job itself reads again, and nobody else."""

from __future__ import annotations

import asyncio

from quantry_core.errors import SealRefused
from quantry_core.jobs import FinetuneSpec
from quantry_core.keys import Identity
from quantry_core.vault import MAX_CHECKPOINT_FILES, CheckpointSeal, checkpoint_key
from quantry_core.versions import SealResult, manifest_digest
from quantry_registry.parts import Parts
from quantry_registry.seals.moves import check_paths, move_in, note_moved, to_go_on_from
from quantry_store.database import Database
from quantry_store.transactions.checkpoints import record_checkpoint_seal
from quantry_store.transactions.execution import check_attempt


async def seal(database: Database, parts: Parts, request: CheckpointSeal, *, who: Identity | None = None) -> SealResult:
    """Moves an attempt's checkpoint into the vault and notes that it is what the attempt may report next. May be repeated: the last
    seal counts.

    The formats are the job's own business, pickles included: nothing of a checkpoint ever becomes a version, and only a child of the
    job it is of reads it. What was staged is removed, so that a long run does not fill the bucket.

    Raises StaleAttempt if the attempt no longer holds its job, SealRefused if a file is not what was declared, the job trains nothing,
    or the checkpoint is beyond the number of files or the bytes that one may have.
    """
    check_paths(request.files, MAX_CHECKPOINT_FILES)
    num_bytes = sum(file.size_bytes for file in request.files)
    if num_bytes > parts.settings.max_checkpoint_bytes:
        raise SealRefused(f"the checkpoint has {num_bytes} bytes, more than the {parts.settings.max_checkpoint_bytes} that one may have")
    async with database.begin() as uow:
        job = await check_attempt(uow, request.job_id, request.attempt)
    if not isinstance(job.spec, FinetuneSpec):
        raise SealRefused(f"a job of type {job.type} has no checkpoints")

    def key_of(path: str) -> str:
        return checkpoint_key(request.job_id, request.attempt, request.step, path)

    way = to_go_on_from(parts, key_of)
    num_sealed = await move_in(parts, request.files, way)
    await note_moved(database, parts, request.files, way)
    async with database.begin(who) as uow:
        # Fenced again: hashing takes a while, and an attempt that lost its job meanwhile writes nothing.
        await record_checkpoint_seal(uow, request)
    await asyncio.to_thread(parts.staging.remove_checkpoints, request.job_id, request.attempt)
    return SealResult(manifest_digest=manifest_digest(request.files), num_sealed=num_sealed, num_reused=len(request.files) - num_sealed)
