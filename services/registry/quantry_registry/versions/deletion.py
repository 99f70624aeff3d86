"""``/api/v1/versions/{id}``: deleting a version, and taking it back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path

from quantry_blobs.vault import Vault
from quantry_core.errors import Conflict
from quantry_core.versions import ManifestFile, Version
from quantry_http.auth import Caller, Db
from quantry_http.problems import problem_responses
from quantry_registry.models.schemas import VERSION_ID_PATTERN
from quantry_registry.parts import PartsOf
from quantry_store.transactions.deletion import delete_version as delete
from quantry_store.transactions.deletion import restore_version as restore

router = APIRouter(prefix="/versions", tags=["versions"])

VersionId = Annotated[str, Path(pattern=VERSION_ID_PATTERN, description="An id alone: what a name means may change in between.")]


@router.delete("/{version_id}", status_code=204, responses=problem_responses(404, 409))
async def delete_version(caller: Caller, database: Db, version_id: VersionId) -> None:
    """Deletes a version that nothing depends on. Its id still finds it, and it can be restored until the collection removes it."""
    async with database.begin() as uow:
        await delete(uow, version_id, who=caller)


@router.post("/{version_id}/restore", responses=problem_responses(404, 409))
async def restore_version(caller: Caller, database: Db, parts: PartsOf, version_id: VersionId) -> Version:
    """Brings a deleted version back, if all its bytes are still there."""
    async with database.begin() as uow:
        version = await uow.versions.get(caller.project_id, version_id)
        files = await uow.versions.kept_files(version.id)
    # Its files hold their blobs as long as its row is there, so what is found now stays.
    missing = await asyncio.to_thread(_missing, parts.vault, files)
    if missing:
        raise Conflict(f"the vault has lost {missing[0].path} ({missing[0].sha256}) of {version.ref}; restore it from a copy of the bucket")
    async with database.begin() as uow:
        return await restore(uow, version_id, who=caller)


def _missing(vault: Vault, files: Sequence[ManifestFile]) -> list[ManifestFile]:
    return [file for file in files if not vault.contains(file.sha256, file.size_bytes)]
