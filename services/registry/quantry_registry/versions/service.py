"""Files of versions, out of the vault."""

from __future__ import annotations

from collections.abc import AsyncIterator

from quantry_blobs.errors import DigestMismatch, UnknownBlob
from quantry_blobs.vault import Vault
from quantry_core.versions import ManifestFile
from quantry_registry.streams import open_stream
from quantry_store.database import Database


async def find_file(database: Database, project_id: str, ref: str, path: str) -> ManifestFile:
    """Returns a file of the version that ``ref`` means; raises UnknownModel, UnknownVersion or NotFound."""
    async with database.begin() as uow:
        version = await uow.versions.resolve(project_id, ref)
        return await uow.versions.file(project_id, version.id, path)


async def open_file(vault: Vault, file: ManifestFile, start: int, length: int) -> AsyncIterator[bytes]:
    """Returns a stream of ``length`` bytes of a file from ``start``; raises DigestMismatch if the vault has lost the file."""
    try:
        return await open_stream(vault.open_range(file.sha256, start, length))
    except UnknownBlob as error:
        raise DigestMismatch(f"the vault has lost {file.sha256} ({file.path}); restore it from a copy of the bucket") from error
