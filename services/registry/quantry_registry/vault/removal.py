"""Removes the object of a blob whose row went before.

A seal that takes up a blob while it is removed either keeps its row (it is younger then), or waits until the object is
gone and finds that out when it looks once more; see quantry_registry.keeping.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress

import structlog

from quantry_blobs.errors import StoreUnavailable
from quantry_blobs.vault import Vault
from quantry_core.errors import Unavailable
from quantry_store.database import Database
from quantry_store.repositories.blobs import Blob

_log = structlog.get_logger(__name__)

REMOVAL_BEGINS_WITHIN_S = 10.0
"""A removal that finds no free thread for longer is left to the next run: its transaction must not end before its request."""

MAX_REMOVALS = 3
"""Tries of removing one object while the store does not answer, each in a transaction of its own."""


async def remove_object(database: Database, vault: Vault, blob: Blob) -> bool:
    """Removes an object unless a row knows it again or it is in use; returns whether it did."""
    for _ in range(MAX_REMOVALS - 1):
        with suppress(StoreUnavailable):
            return await _to_its_end(_remove_reserved(database, vault, blob))
    return await _to_its_end(_remove_reserved(database, vault, blob))


async def _remove_reserved(database: Database, vault: Vault, blob: Blob) -> bool:
    """The transaction spans the request on purpose: while it lasts, whoever would note this digest waits."""
    try:
        async with database.begin() as uow:
            if not await uow.blobs.reserve(blob):
                return False
            begin_by_s = time.monotonic() + REMOVAL_BEGINS_WITHIN_S
            is_removed = await asyncio.to_thread(vault.remove, blob.sha256, begin_by_s)
            await uow.blobs.unreserve(blob)
    except Unavailable:
        await _look_again(database, vault, blob)
        raise
    return is_removed


async def _look_again(database: Database, vault: Vault, blob: Blob) -> None:
    """Says in the log where a row is without its object: the transaction was lost before its request had an end."""
    try:
        async with database.begin() as uow:
            is_known = bool(await uow.blobs.known([blob.sha256]))
        is_lost = is_known and not await asyncio.to_thread(vault.contains, blob.sha256, blob.size_bytes)
    except Unavailable as error:
        _log.warning("removal broken off, and nothing to ask", sha256=blob.sha256, error=error.detail)
        return
    if is_lost:
        _log.error("blob lost: it was taken up again while it was removed", sha256=blob.sha256)


async def _to_its_end(removal: Coroutine[None, None, bool]) -> bool:
    """Returns what a removal returns. Where the caller is cancelled it is waited for all the same: a thread is sending its
    request, and the transaction that makes others wait must last as long.
    """
    task = asyncio.create_task(removal)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
