"""The seal. Nothing a worker says of its files is believed: the vault hashes them, and the import rules read them there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from quantry_blobs.vault import VaultCheckpoint
from quantry_core.checkpoints import MAX_FILES, CheckpointReader, check_master, inspect_checkpoint
from quantry_core.errors import SealRefused
from quantry_core.jobs import ImportSpec, Job, QuantizeSpec, RecalibrateSpec, chosen
from quantry_core.methods import Format
from quantry_core.versions import SealRequest, SealResult, manifest_digest, staging_key
from quantry_registry.parts import Parts
from quantry_registry.seals.gguf_files import check_gguf
from quantry_registry.seals.moves import check_paths, move_in, note_moved
from quantry_store.database import Database
from quantry_store.transactions.execution import check_attempt
from quantry_store.transactions.vault import record_seal

Rule = Callable[[CheckpointReader], str | None]
"""Returns the dtype of a master's weights, None for other checkpoints; raises SourceRefused for what may not be kept."""


async def seal(database: Database, parts: Parts, request: SealRequest) -> SealResult:
    """Moves an attempt's files into the vault and notes that they are what the attempt may finish with.

    May be repeated: what was moved stays moved, and the last seal counts.

    Raises StaleAttempt if the attempt no longer holds its job, SealRefused if a file is not what was declared or the job
    makes no files, SourceRefused if the files together are no checkpoint that may be kept.
    """
    check_paths(request.files, MAX_FILES)
    async with database.begin() as uow:
        rule = _rule_for(await check_attempt(uow, request.job_id, request.attempt))

    def key_of(path: str) -> str:
        return staging_key(request.job_id, request.attempt, path)

    num_sealed = await move_in(parts, request.files, key_of)
    dtype = await asyncio.to_thread(rule, VaultCheckpoint(parts.vault, request.files))
    async with database.begin() as uow:
        # Fenced again: hashing takes minutes, and an attempt that lost its job meanwhile writes nothing.
        await check_attempt(uow, request.job_id, request.attempt)
    await note_moved(database, parts, request.files, key_of)
    async with database.begin() as uow:
        await record_seal(uow, request, dtype=dtype)
    return SealResult(manifest_digest=manifest_digest(request.files), num_sealed=num_sealed, num_reused=len(request.files) - num_sealed)


def _rule_for(job: Job) -> Rule:
    """Returns what the files of a job must be; raises SealRefused for one that makes none."""
    match job.spec:
        case ImportSpec():
            return _master
        case QuantizeSpec() as recipe:
            return _quantized(recipe)
        case RecalibrateSpec(recipe=QuantizeSpec() as recipe):
            return _quantized(recipe)
        case _:
            raise SealRefused(f"a job of type {job.type} makes no files")


def _quantized(recipe: QuantizeSpec) -> Rule:
    return check_gguf if chosen(recipe).info.format is Format.GGUF else _inert


def _master(reader: CheckpointReader) -> str:
    return check_master(inspect_checkpoint(reader))


def _inert(reader: CheckpointReader) -> None:
    """A quantized checkpoint has passed once it is complete, inert and well formed; its numbers are the gate's business. It is
    of several dtypes, so none is returned."""
    inspect_checkpoint(reader)
