"""Removes what nothing refers to. Rows go first, objects after: what is broken off in between is found by the next run.

A seal that takes up a blob while it is collected either keeps its row (it is younger then), or waits until the object is
gone and finds that out when it looks once more; see quantry_registry.keeping.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

import structlog

from quantry_blobs.errors import StoreUnavailable
from quantry_blobs.stores import Entry
from quantry_core.datasets import Dataset
from quantry_core.errors import Unavailable
from quantry_core.vault import CollectReport, CollectRequest
from quantry_core.versions import Version
from quantry_registry.parts import Parts
from quantry_registry.sweeps import abandoned_attempts, sweep_incoming, sweep_staging
from quantry_registry.vault.claims import HeldRun
from quantry_store.database import Database
from quantry_store.repositories.blobs import Blob
from quantry_store.transactions.dataset_deletion import remove_dataset
from quantry_store.transactions.deletion import remove_version

_log = structlog.get_logger(__name__)

BATCH = 200
MAX_NAMED = 100
REMOVAL_BEGINS_WITHIN_S = 10.0
"""A removal that finds no free thread for longer is left to the next run: its transaction must not end before its request."""

MAX_REMOVALS = 3
"""Tries of removing one object while the store does not answer, each in a transaction of its own."""


async def collect(database: Database, parts: Parts, held: HeldRun) -> CollectReport:
    """Returns what was removed, or what would be. Raises RunLost, or Unavailable where store or database stay away."""
    request = CollectRequest.model_validate(held.run.request)
    age_s = parts.settings.collect_age_s if request.age_s is None else request.age_s
    run = _Run(database, parts, held, CollectReport(dry_run=request.dry_run), age_s)
    await run.versions()
    await run.datasets()
    await run.blobs()
    await run.orphans()
    await run.leftovers()
    return run.report


class _Run:
    """One collection. Each step leaves nothing half done that the next run does not find."""

    def __init__(self, database: Database, parts: Parts, held: HeldRun, report: CollectReport, age_s: float) -> None:
        self._database = database
        self._parts = parts
        self._held = held
        self.report = report
        self._age_s = age_s

    async def versions(self) -> None:
        """Removes deleted versions that can no longer be restored; children before parents."""
        while await self._expired_versions():
            # Without the last child its parent may go: until nothing more goes. What is only counted stays, and is counted once.
            if self.report.dry_run:
                return

    async def _expired_versions(self) -> int:
        """Removes the versions that nothing was made from, or counts them; returns how many. Each batch renews the claim."""
        num_gone, cursor = 0, ""
        while True:
            async with self._database.begin() as uow:
                batch = await uow.deletions.expired(self._parts.settings.deleted_retention_s, after=cursor, limit=BATCH)
            if not batch:
                return num_gone
            cursor = batch[-1].id
            gone = batch if self.report.dry_run else [version for version in batch if await self._remove(version)]
            num_gone += len(gone)
            refs = [*self.report.versions, *self._own_refs(gone)][:MAX_NAMED]
            await self._note(num_versions=self.report.num_versions + len(gone), versions=refs)

    async def _remove(self, version: Version) -> bool:
        async with self._database.begin() as uow:
            is_removed = await remove_version(uow, version, self._parts.settings.deleted_retention_s)
        if is_removed:
            _log.info("deleted version removed for good", version_id=version.id, ref=version.ref)
        return is_removed

    async def datasets(self) -> None:
        """Makes deleted datasets that can no longer be restored let go of their bytes; what they were is kept."""
        retention_s, cursor = self._parts.settings.deleted_retention_s, ""
        while True:
            async with self._database.begin() as uow:
                batch = await uow.dataset_deletions.expired(retention_s, after=cursor, limit=BATCH)
            if not batch:
                return
            cursor = batch[-1].id
            gone = batch if self.report.dry_run else [dataset for dataset in batch if await self._remove_dataset(dataset, retention_s)]
            refs = [*self.report.datasets, *self._own_refs(gone)][:MAX_NAMED]
            await self._note(num_datasets=self.report.num_datasets + len(gone), datasets=refs)

    async def _remove_dataset(self, dataset: Dataset, retention_s: float) -> bool:
        async with self._database.begin() as uow:
            is_removed = await remove_dataset(uow, dataset, retention_s)
        if is_removed:
            _log.info("deleted dataset removed for good", dataset_id=dataset.id, ref=dataset.ref)
        return is_removed

    async def blobs(self) -> None:
        """Removes blobs that no version, dataset, upload or job refers to."""
        cursor = ""
        while True:
            async with self._database.begin() as uow:
                batch = await uow.blobs.unreferenced(self._age_s, after=cursor, limit=BATCH)
            if not batch:
                return
            cursor = batch[-1].sha256
            gone = batch
            if not self.report.dry_run:
                async with self._database.begin() as uow:
                    gone = await uow.blobs.forget([blob.sha256 for blob in batch], self._age_s)
                for blob in gone:
                    await self._remove_object(blob)
            await self._count(gone, num_blobs=self.report.num_blobs + len(gone))

    async def orphans(self) -> None:
        """Removes objects that no row knows: left by a registry that died between object and row, or row and object."""
        oldest_s = time.time() - self._age_s
        listing = self._parts.vault.blobs()
        while batch := await asyncio.to_thread(_take, listing, BATCH):
            old = {digest: entry for digest, entry in batch if entry.modified_unix_s < oldest_s}
            async with self._database.begin() as uow:
                known = await uow.blobs.known(old)
            unknown = [Blob(digest, entry.size_bytes) for digest, entry in old.items() if digest not in known]
            gone = unknown if self.report.dry_run else [blob for blob in unknown if await self._remove_object(blob)]
            await self._count(gone, num_orphans=self.report.num_orphans + len(gone))

    async def leftovers(self) -> None:
        """Removes what attempts staged that no longer hold their job, and what never got its key."""
        if self.report.dry_run:
            num_attempts = len(await abandoned_attempts(self._database, self._parts.staging))
            num_incoming = len(await asyncio.to_thread(self._parts.vault.leftovers, self._parts.settings.incoming_max_age_s))
        else:
            num_attempts = await sweep_staging(self._database, self._parts.staging)
            num_incoming = await sweep_incoming(self._parts.vault, self._parts.settings.incoming_max_age_s)
        await self._note(num_staged_attempts=num_attempts, num_incoming=num_incoming)

    async def _remove_object(self, blob: Blob) -> bool:
        """Removes an object unless a row knows it again or it is in use; returns whether it did."""
        for _ in range(MAX_REMOVALS - 1):
            with suppress(StoreUnavailable):
                return await _to_its_end(self._remove_reserved(blob))
        return await _to_its_end(self._remove_reserved(blob))

    async def _remove_reserved(self, blob: Blob) -> bool:
        """The transaction spans the request on purpose: while it lasts, whoever would note this digest waits."""
        try:
            async with self._database.begin() as uow:
                if not await uow.blobs.reserve(blob):
                    return False
                begin_by_s = time.monotonic() + REMOVAL_BEGINS_WITHIN_S
                is_removed = await asyncio.to_thread(self._parts.vault.remove, blob.sha256, begin_by_s)
                await uow.blobs.unreserve(blob)
        except Unavailable:
            await self._look_again(blob)
            raise
        return is_removed

    async def _look_again(self, blob: Blob) -> None:
        """Says in the log where a row is without its object: the transaction was lost before its request had an end."""
        try:
            async with self._database.begin() as uow:
                is_known = bool(await uow.blobs.known([blob.sha256]))
            is_lost = is_known and not await asyncio.to_thread(self._parts.vault.contains, blob.sha256, blob.size_bytes)
        except Unavailable as error:
            _log.warning("removal broken off, and nothing to ask", sha256=blob.sha256, error=error.detail)
            return
        if is_lost:
            _log.error("blob lost: it was taken up again while it was removed", sha256=blob.sha256)

    def _own_refs(self, gone: Sequence[Version | Dataset]) -> list[str]:
        """Returns the names of those that the project that asked had: others are only counted."""
        return [thing.ref for thing in gone if thing.project_id == self._held.run.project_id]

    async def _count(self, gone: list[Blob], **counts: int) -> None:
        # By name in the log alone: the run is one project's, and what nothing refers to may have been any other's.
        _log.info("collected", run_id=self._held.run.id, dry_run=self.report.dry_run, digests=[blob.sha256 for blob in gone])
        await self._note(num_bytes=self.report.num_bytes + sum(blob.size_bytes for blob in gone), **counts)

    async def _note(self, **changes: object) -> None:
        self.report = self.report.model_copy(update=changes)
        await self._held.note(self.report.model_dump(mode="json"))


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


def _take(listing: Iterator[tuple[str, Entry]], number: int) -> list[tuple[str, Entry]]:
    entries: Iterable[tuple[str, Entry]] = islice(listing, number)
    return list(entries)
