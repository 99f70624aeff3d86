"""Takes texts in: checked while they stream, kept on disk until they are known to be good, and only then put in the vault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from quantry_blobs.stores import Stored
from quantry_blobs.vault import Vault
from quantry_core.keys import Identity
from quantry_core.versions import Dataset
from quantry_registry.datasets.text import TextCheck
from quantry_store.database import Database

MAX_MEMORY_BYTES = 8 * 1024**2
"""A longer text goes to a file in the temporary directory while it is checked."""


async def add_text(database: Database, vault: Vault, caller: Identity, name: str, pieces: AsyncIterator[bytes]) -> tuple[Dataset, bool]:
    """Returns the dataset that this text now is, and whether it is new under that name.

    Raises InvalidInput, with byte and line, for what is no text; nothing was written then, nor when the client leaves.
    """
    stored = await _take_in(vault, pieces)
    async with database.begin() as uow:
        dataset, is_new = await uow.datasets.add(caller.project_id, name, stored)
        if is_new:
            data = {"ref": dataset.ref, "sha256": dataset.sha256, "size_bytes": dataset.size_bytes}
            await uow.audit.record(caller, "dataset.add", "dataset", dataset.id, data)
    return dataset, is_new


async def _take_in(vault: Vault, pieces: AsyncIterator[bytes]) -> Stored:
    check = TextCheck()
    with SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES) as file:
        async for piece in pieces:
            check.feed(piece)
            await asyncio.to_thread(file.write, piece)
        check.finish()
        await asyncio.to_thread(file.seek, 0)
        return await asyncio.to_thread(vault.put_stream, cast(BinaryIO, file))
