"""The seal. Nothing a worker says of its files is believed: the vault hashes them, and the import rules read them there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from quantry_blobs.vault import Vault, VaultCheckpoint
from quantry_core.checkpoints import MAX_FILES, CheckpointInfo, check_master, inspect_checkpoint
from quantry_core.errors import SealRefused
from quantry_core.jobs import JobType
from quantry_core.versions import ManifestFile, SealRequest, SealResult, manifest_digest, staging_key
from quantry_registry.parts import Parts
from quantry_store.database import Database
from quantry_store.transactions.execution import check_attempt
from quantry_store.transactions.vault import record_seal


def _check_nothing_more(_info: CheckpointInfo) -> None:
    """A quantized checkpoint has passed once it is complete, inert and well formed; its numbers are the gate's business. It is
    of several dtypes, so none is returned."""


Rule = Callable[[CheckpointInfo], str | None]
"""Returns the dtype of the weights if there is one; raises SourceRefused."""

_RULES: dict[JobType, Rule] = {
    JobType.IMPORT: check_master,
    JobType.QUANTIZE: _check_nothing_more,
}
"""The job types that make files, and what their checkpoint must be beyond well formed."""


async def seal(database: Database, parts: Parts, request: SealRequest) -> SealResult:
    """Moves an attempt's files into the vault and notes that they are what the attempt may finish with.

    May be repeated: what was moved stays moved, and the last seal counts.

    Raises StaleAttempt if the attempt no longer holds its job, SealRefused if a file is not what was declared or the job
    makes no files, SourceRefused if the files together are no checkpoint that may be kept.
    """
    _check_manifest(request.files)
    async with database.begin() as uow:
        job = await check_attempt(uow, request.job_id, request.attempt)
    rule = _RULES.get(job.type)
    if rule is None:
        raise SealRefused(f"a job of type {job.type} makes no files")
    num_sealed = await _move(parts, request)
    dtype = await asyncio.to_thread(_check_checkpoint, parts.vault, request.files, rule)
    async with database.begin() as uow:
        # Fenced again: hashing takes minutes, and an attempt that lost its job meanwhile writes nothing.
        await record_seal(uow, request, dtype=dtype)
    return SealResult(manifest_digest=manifest_digest(request.files), num_sealed=num_sealed, num_reused=len(request.files) - num_sealed)


def _check_manifest(files: Sequence[ManifestFile]) -> None:
    path, count = Counter(file.path for file in files).most_common(1)[0]
    if count > 1:
        raise SealRefused(f"{path} is declared {count} times")
    if len(files) > MAX_FILES:
        raise SealRefused(f"{len(files)} files are declared, more than the {MAX_FILES} a checkpoint may have")


async def _move(parts: Parts, request: SealRequest) -> int:
    """Returns how many of the files were not in the vault before."""

    async def move(file: ManifestFile) -> bool:
        key = staging_key(request.job_id, request.attempt, file.path)
        async with parts.seal_slots:
            return await asyncio.to_thread(parts.vault.seal, parts.staging.bucket, key, file)

    # All are waited for, so that none is still moving when the refusal is answered.
    results = await asyncio.gather(*(move(file) for file in request.files), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results.count(True)


def _check_checkpoint(vault: Vault, files: Sequence[ManifestFile], rule: Rule) -> str | None:
    return rule(inspect_checkpoint(VaultCheckpoint(vault, files)))
