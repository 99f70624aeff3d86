"""Removes what nothing refers to. Rows go first, objects after: what is broken off in between is found by the next run.

A seal that takes up a blob while it is collected either keeps its row (it is younger then), or waits until the object is
gone and finds that out when it looks once more; see quantry_registry.keeping.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import structlog

from quantry_blobs.stores import Entry
from quantry_core.vault import CollectReport, CollectRequest
from quantry_registry.parts import Parts
from quantry_registry.sweeps import abandoned_attempts, sweep_incoming, sweep_staging
from quantry_registry.vault.claims import HeldRun
from quantry_store.database import Database
from quantry_store.repositories.blobs import Blob
from quantry_store.transactions.deletion import remove_version

_log = structlog.get_logger(__name__)

BATCH = 200
MAX_NAMED = 100


async def collect(database: Database, parts: Parts, held: HeldRun) -> CollectReport:
    """Returns what was removed, or what would be. Raises RunLost, or Unavailable where store or database stay away."""
    request = CollectRequest.model_validate(held.run.request)
    age_s = parts.settings.collect_age_s if request.age_s is None else request.age_s
    run = _Run(database, parts, held, CollectReport(dry_run=request.dry_run), age_s)
    await run.versions()
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
        retention_s = self._parts.settings.deleted_retention_s
        refs: list[str] = []
        while True:
            async with self._database.begin() as uow:
                expired = await uow.deletions.expired(retention_s)
            removed = [] if self.report.dry_run else [version for version in expired if await self._remove(version.id, version.project_id)]
            refs += [version.ref for version in (expired if self.report.dry_run else removed)]
            await self._note(num_versions=len(refs), versions=refs[:MAX_NAMED])
            # Without the last child its parent may go: until nothing more goes.
            if not removed:
                return

    async def _remove(self, version_id: str, project_id: str) -> bool:
        async with self._database.begin() as uow:
            version = await uow.versions.get(project_id, version_id)
            is_removed = await remove_version(uow, version, self._parts.settings.deleted_retention_s)
        if is_removed:
            _log.info("deleted version removed for good", version_id=version.id, ref=version.ref)
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
        """Removes an object unless a row knows it again; returns whether it did.

        The transaction spans the request on purpose: while it lasts, whoever would note this digest waits.
        """
        async with self._database.begin() as uow:
            if not await uow.blobs.reserve(blob):
                return False
            await asyncio.to_thread(self._parts.vault.remove, blob.sha256)
            await uow.blobs.unreserve(blob)
        return True

    async def _count(self, gone: list[Blob], **counts: int) -> None:
        digests = [*self.report.digests, *(blob.sha256 for blob in gone)][:MAX_NAMED]
        await self._note(num_bytes=self.report.num_bytes + sum(blob.size_bytes for blob in gone), digests=digests, **counts)

    async def _note(self, **changes: object) -> None:
        self.report = self.report.model_copy(update=changes)
        await self._held.note(self.report.model_dump(mode="json"))


def _take(listing: Iterator[tuple[str, Entry]], number: int) -> list[tuple[str, Entry]]:
    entries: Iterable[tuple[str, Entry]] = islice(listing, number)
    return list(entries)
