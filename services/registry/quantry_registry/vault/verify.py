"""Every blob is read and hashed again; what is not what it was sealed as is put aside, and whoever holds it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from quantry_core.vault import DamagedBlob, VerifyReport, VerifyRequest
from quantry_core.versions import VersionKind
from quantry_registry.parts import Parts
from quantry_registry.vault.claims import HeldRun
from quantry_store.database import Database
from quantry_store.repositories.blobs import Blob
from quantry_store.transactions.vault import record_damage

_log = structlog.get_logger(__name__)

BATCH = 16
"""Blobs between two notes of the progress: a restart reads at most so many again."""


async def verify(database: Database, parts: Parts, held: HeldRun) -> VerifyReport:
    """Returns what was found, once everything that was asked for was read. Goes on where an earlier holder of the run ended.

    Raises RunLost, or Unavailable where store or database stay away.
    """
    report = VerifyReport.model_validate(held.report)
    slots = asyncio.Semaphore(parts.settings.verify_parallel)
    async for batch in _batches(database, held, report.cursor):
        found = await _hash(parts, slots, batch, held, report)
        damaged = [await _put_aside(database, parts, held, blob, words) for blob, words in found.items() if words is not None]
        async with database.begin() as uow:
            await uow.blobs.note_verified([blob.sha256 for blob, words in found.items() if words is None])
        report = report.model_copy(
            update={
                "num_blobs": report.num_blobs + len(batch),
                "num_bytes": report.num_bytes + sum(blob.size_bytes for blob in batch),
                "damaged": [*report.damaged, *damaged],
                "cursor": batch[-1].sha256,
            }
        )
        await held.note(report.model_dump(mode="json"))
    return report


def words_of(report: VerifyReport) -> str:
    """Returns the one sentence that a run ends with."""
    if not report.damaged:
        return f"{report.num_blobs} blobs with {report.num_bytes} bytes are as they were sealed"
    masters = sorted({ref for blob in report.damaged for ref in blob.versions if ref.endswith(MASTER_MARK)})
    lost = f"; MASTERS ARE DAMAGED: {', '.join(masters)}: restore their bytes from a copy of the bucket" if masters else ""
    return f"{len(report.damaged)} of {report.num_blobs} blobs are damaged or missing{lost}"


MASTER_MARK = " (master)"


async def _batches(database: Database, held: HeldRun, cursor: str) -> AsyncIterator[list[Blob]]:
    """Yields what is to be read, by digest, a batch at a time."""
    request = VerifyRequest.model_validate(held.run.request)
    if request.version is not None:
        async with database.begin() as uow:
            files = await uow.versions.files(request.version)
        blobs = sorted({Blob(file.sha256, file.size_bytes) for file in files if file.sha256 > cursor})
        for start in range(0, len(blobs), BATCH):
            yield blobs[start : start + BATCH]
        return
    while True:
        async with database.begin() as uow:
            batch = await uow.blobs.after(cursor, limit=BATCH, unverified_s=request.older_than_s)
        if not batch:
            return
        yield batch
        cursor = batch[-1].sha256


async def _hash(parts: Parts, slots: asyncio.Semaphore, batch: list[Blob], held: HeldRun, report: VerifyReport) -> dict[Blob, str | None]:
    """Returns what is wrong with each blob, None where it is right; renews the claim while large ones are read."""

    async def check(blob: Blob) -> str | None:
        async with slots:
            return await asyncio.to_thread(parts.vault.check, blob.sha256, blob.size_bytes)

    checks = asyncio.gather(*(check(blob) for blob in batch))
    try:
        while not (await asyncio.wait([checks], timeout=parts.settings.vault_claim_s / 4))[0]:
            await held.note(report.model_dump(mode="json"))
    finally:
        checks.cancel()
    return dict(zip(batch, checks.result(), strict=True))


async def _put_aside(database: Database, parts: Parts, held: HeldRun, blob: Blob, words: str) -> DamagedBlob:
    """Takes a damaged blob out of its key and notes it of all that hold it."""
    kept_at = await asyncio.to_thread(parts.vault.set_aside, blob.sha256)
    async with database.begin() as uow:
        damage = await record_damage(uow, blob.sha256, words, held.run.id)
    refs = [version.ref + (MASTER_MARK if version.kind is VersionKind.MASTER else "") for version in damage.versions]
    _log.error("damaged blob", sha256=blob.sha256, found=words, versions=refs, datasets=damage.datasets, kept_at=kept_at)
    return DamagedBlob(
        sha256=blob.sha256,
        size_bytes=blob.size_bytes,
        found=words,
        versions=refs,
        datasets=damage.datasets,
        artifacts=damage.artifacts,
    )
