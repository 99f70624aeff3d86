"""Bytes that were just put into the vault are noted so that no collection takes them away between the two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from quantry_blobs.stores import Stored
from quantry_blobs.vault import Vault
from quantry_core.errors import Unavailable
from quantry_core.versions import ManifestFile
from quantry_store.database import Database
from quantry_store.transactions.vault import note_blobs
from quantry_store.unit_of_work import UnitOfWork

Note = Callable[[UnitOfWork, Sequence[ManifestFile]], Awaitable[None]]
"""Notes in a transaction that the vault holds files, and what for."""


async def note_kept(database: Database, vault: Vault, files: Sequence[ManifestFile], note: Note) -> list[ManifestFile]:
    """Notes that the vault holds these files, and returns those whose objects a collection took away just before.

    From the commit on none of the others is collected until its age is over. Raises SealRefused where the vault knows a
    digest with another size.
    """
    async with database.begin() as uow:
        await note(uow, files)

    def missing() -> list[ManifestFile]:
        return [file for file in files if not vault.contains(file.sha256, file.size_bytes)]

    return await asyncio.to_thread(missing)


async def keep(database: Database, vault: Vault, stored: Stored) -> None:
    """Notes that the vault holds what it just took in from a stream; raises Unavailable if the stream must come again."""
    file = ManifestFile(path=stored.sha256, size_bytes=stored.size_bytes, sha256=stored.sha256)
    if await note_kept(database, vault, [file], note_blobs):
        raise Unavailable("the vault was just being rid of these very bytes; send them again")
