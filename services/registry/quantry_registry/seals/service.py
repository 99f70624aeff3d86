"""The seal. Nothing a worker says of its files is believed: the vault hashes them, and the import rules read them there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from quantry_blobs.vault import VaultCheckpoint
from quantry_core.adapters import inspect_adapter
from quantry_core.checkpoints import DTYPE_NAMES, MAX_FILES, CheckpointReader, check_master, inspect_checkpoint
from quantry_core.errors import SealRefused, SourceRefused
from quantry_core.jobs import FinetuneSpec, ImportSpec, InputRole, Job, MergeSpec, QuantizeSpec, RecalibrateSpec, chosen
from quantry_core.keys import Identity
from quantry_core.methods import Format
from quantry_core.versions import SealRequest, SealResult, manifest_digest, staging_key
from quantry_registry.parts import Parts
from quantry_registry.seals.gguf_files import check_gguf
from quantry_registry.seals.moves import check_paths, move_in, note_moved, to_keep
from quantry_store.database import Database
from quantry_store.transactions.execution import check_attempt
from quantry_store.transactions.vault import record_seal
from quantry_store.unit_of_work import UnitOfWork

Rule = Callable[[CheckpointReader], str | None]
"""Returns the dtype of 16-bit weights or of a 16-bit adapter, None for other files; raises SourceRefused for what may not be kept."""


async def seal(database: Database, parts: Parts, request: SealRequest, *, who: Identity | None = None) -> SealResult:
    """Moves an attempt's files into the vault and notes that they are what the attempt may finish with.

    May be repeated: what was moved stays moved, and the last seal counts.

    Raises StaleAttempt if the attempt no longer holds its job, SealRefused if a file is not what was declared or the job
    makes no files, SourceRefused if the files together are no checkpoint that may be kept.
    """
    check_paths(request.files, MAX_FILES)
    async with database.begin() as uow:
        job = await check_attempt(uow, request.job_id, request.attempt)
        rule = _rule_for(job, await _base_ref(uow, job))

    def key_of(path: str) -> str:
        return staging_key(request.job_id, request.attempt, path)

    way = to_keep(parts, key_of)
    num_sealed = await move_in(parts, request.files, way)
    dtype = await asyncio.to_thread(rule, VaultCheckpoint(parts.vault, request.files))
    async with database.begin() as uow:
        # Fenced again: hashing takes minutes, and an attempt that lost its job meanwhile writes nothing.
        await check_attempt(uow, request.job_id, request.attempt)
    await note_moved(database, parts, request.files, way)
    async with database.begin(who) as uow:
        await record_seal(uow, request, dtype=dtype)
    return SealResult(manifest_digest=manifest_digest(request.files), num_sealed=num_sealed, num_reused=len(request.files) - num_sealed)


async def _base_ref(uow: UnitOfWork, job: Job) -> str | None:
    """Returns the version that a job's own is made from, name@number; None where it is made from none."""
    base_id = next((item.version_id for item in job.inputs if item.role is InputRole.BASE), None)
    return None if base_id is None else (await uow.versions.get(job.project_id, base_id)).ref


def _rule_for(job: Job, base_ref: str | None) -> Rule:
    """Returns what the files of a job must be that is made from ``base_ref``; raises SealRefused for one that makes none."""
    match job.spec:
        case ImportSpec() | MergeSpec() | FinetuneSpec(adapter=None):
            return _sixteen_bit
        case FinetuneSpec():
            return _adapter(base_ref)
        case QuantizeSpec() as recipe:
            return _quantized(recipe)
        case RecalibrateSpec(recipe=QuantizeSpec() as recipe):
            return _quantized(recipe)
        case _:
            raise SealRefused(f"a job of type {job.type} makes no files")


def _quantized(recipe: QuantizeSpec) -> Rule:
    return check_gguf if chosen(recipe).info.format is Format.GGUF else _inert


def _sixteen_bit(reader: CheckpointReader) -> str:
    return check_master(inspect_checkpoint(reader))


def _adapter(base_ref: str | None) -> Rule:
    """Returns the rule for an adapter of ``base_ref``: whoever loads it elsewhere reads there what it was trained on."""

    def check(reader: CheckpointReader) -> str | None:
        info = inspect_adapter(reader)
        if info.base_ref != base_ref:
            raise SourceRefused(f"the adapter says that it was trained on {info.base_ref}, and its job trained on {base_ref}")
        return info.dtype if info.dtype in DTYPE_NAMES.values() else None

    return check


def _inert(reader: CheckpointReader) -> None:
    """A quantized checkpoint has passed once it is complete, inert and well formed; its numbers are the gate's business. It is
    of several dtypes, so none is returned."""
    inspect_checkpoint(reader)
