"""``/api/v1/versions/{ref}/modules``: how each module of a version is stored, read from the headers of its files in the vault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter

from quantry_blobs.errors import UnknownBlob
from quantry_blobs.vault import Vault, VaultCheckpoint
from quantry_core.checkpoints import CheckpointInfo, inspect_checkpoint
from quantry_core.errors import Conflict, SourceRefused
from quantry_core.gguf import GgufError, read_gguf
from quantry_core.methods import Format
from quantry_core.stored_modules import StoredModules, gguf_modules_of, modules_of
from quantry_core.versions import ManifestFile, Version, VersionKind
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.parts import PartsOf
from quantry_registry.versions.endpoints import Ref

router = APIRouter(prefix="/versions", tags=["versions"])
Files = Sequence[ManifestFile]


@router.get("/{ref}/modules", responses=problem_responses(404, 409))
async def get_modules(caller: Caller, database: Db, parts: PartsOf, ref: Ref) -> StoredModules:
    """Returns bits per weight and types of every weight matrix as it lies on disk. Adapters have none of their own."""
    async with database.begin() as uow:
        version = await uow.versions.resolve(caller.project_id, ref)
        files = await uow.versions.files(version.id)
        base = await uow.versions.base_of(version) if version.kind is VersionKind.QUANTIZED else None
        base_files = [] if base is None else await uow.versions.files(base.id)
    if version.bytes_released_at is not None:
        return StoredModules(version_id=version.id, data=[], note="Its bytes were given up after its time in quarantine.")
    if version.kind is VersionKind.ADAPTER:
        return StoredModules(version_id=version.id, data=[], note="An adapter changes the modules of its base, and has none of its own.")
    try:
        return await asyncio.to_thread(_modules, parts.vault, version, files, base_files)
    except UnknownBlob as error:
        raise Conflict(f"the vault has lost a file of {version.ref} or of what it was made from: {error}") from error


def _modules(vault: Vault, version: Version, files: Files, base_files: Files) -> StoredModules:
    try:
        if version.format is Format.GGUF:
            path = next(file.path for file in files if file.path.endswith(".gguf"))
            return StoredModules(version_id=version.id, data=gguf_modules_of(read_gguf(VaultCheckpoint(vault, files), path).tensors))
        own = _read(vault, files)
        base = _read(vault, base_files) if base_files else own
    except (SourceRefused, GgufError, StopIteration) as error:
        return StoredModules(version_id=version.id, data=[], note=f"Its files do not tell: {error}")
    return StoredModules(version_id=version.id, data=modules_of(own.tensors, base.tensors, base.config))


def _read(vault: Vault, files: Files) -> CheckpointInfo:
    return inspect_checkpoint(VaultCheckpoint(vault, files))
