"""The seal of what a job leaves beside its version: raw results, of few and inert formats."""

from __future__ import annotations

from pathlib import PurePosixPath

from quantry_core.errors import SealRefused
from quantry_core.keys import Identity
from quantry_core.vault import ARTIFACT_SUFFIXES, MAX_ARTIFACTS, artifact_key
from quantry_core.versions import SealRequest, SealResult, manifest_digest
from quantry_registry.parts import Parts
from quantry_registry.seals.moves import check_paths, move_in, note_moved, to_keep
from quantry_store.database import Database
from quantry_store.transactions.artifacts import record_artifact_seal
from quantry_store.transactions.execution import check_attempt


async def seal(database: Database, parts: Parts, request: SealRequest, *, who: Identity | None = None) -> SealResult:
    """Moves an attempt's artifacts into the vault and notes that they are what the attempt may leave. May be repeated: the last
    seal counts.

    Raises StaleAttempt if the attempt no longer holds its job, SealRefused if a file is not what was declared, of a format
    that is not kept, or beyond the number or the bytes that a job may leave.
    """
    check_paths(request.files, MAX_ARTIFACTS)
    for file in request.files:
        if PurePosixPath(file.path).suffix not in ARTIFACT_SUFFIXES:
            raise SealRefused(f"{file.path} cannot be kept as an artifact: only {', '.join(sorted(ARTIFACT_SUFFIXES))} can")
    num_bytes = sum(file.size_bytes for file in request.files)
    if num_bytes > parts.settings.max_artifact_bytes:
        raise SealRefused(f"the artifacts have {num_bytes} bytes, more than the {parts.settings.max_artifact_bytes} that a job may leave")
    async with database.begin() as uow:
        await check_attempt(uow, request.job_id, request.attempt)

    def key_of(path: str) -> str:
        return artifact_key(request.job_id, request.attempt, path)

    way = to_keep(parts, key_of)
    num_sealed = await move_in(parts, request.files, way)
    await note_moved(database, parts, request.files, way)
    async with database.begin(who) as uow:
        # Fenced again: hashing takes a while, and an attempt that lost its job meanwhile writes nothing.
        await record_artifact_seal(uow, request)
    return SealResult(manifest_digest=manifest_digest(request.files), num_sealed=num_sealed, num_reused=len(request.files) - num_sealed)
