"""Removes what nothing refers to. Rows go first, objects after: what is broken off in between is found by the next run.

See quantry_registry.vault.removal for the seal that takes up a blob meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import structlog

from quantry_blobs.stores import Entry
from quantry_core.datasets import Dataset
from quantry_core.vault import CollectReport, CollectRequest
from quantry_core.versions import Version
from quantry_registry.parts import Parts
from quantry_registry.sweeps import abandoned_attempts, sweep_incoming, sweep_staging
from quantry_registry.vault.claims import HeldRun
from quantry_registry.vault.removal import remove_object
from quantry_store.database import Database
from quantry_store.repositories.blobs import Blob
from quantry_store.transactions.dataset_deletion import remove_dataset
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
        return await remove_object(self._database, self._parts.vault, blob)

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


def _take(listing: Iterator[tuple[str, Entry]], number: int) -> list[tuple[str, Entry]]:
    entries: Iterable[tuple[str, Entry]] = islice(listing, number)
    return list(entries)
