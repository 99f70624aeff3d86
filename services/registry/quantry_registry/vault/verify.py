"""Every blob is read and hashed again; what is not what it was sealed as is put aside, and whoever holds it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from quantry_blobs.vault import SetAside
from quantry_core.vault import DamagedBlob, VerifyReport, VerifyRequest
from quantry_core.versions import Version, VersionKind
from quantry_registry.parts import Parts
from quantry_registry.vault.claims import HeldRun
from quantry_store.database import Database
from quantry_store.repositories.blobs import Blob
from quantry_store.transactions.vault import Damaged, record_damage, record_whole
from quantry_store.unit_of_work import UnitOfWork

_log = structlog.get_logger(__name__)

BATCH = 16
"""Blobs between two notes of the progress: a restart reads at most so many again."""

KEEP_ALIVE_S = 20.0
"""Between two statements of a transaction that waits for an object to be moved: well below the time after which it counts as idle."""

MASTER_MARK = " (master)"


async def verify(database: Database, parts: Parts, held: HeldRun) -> VerifyReport:
    """Returns what was found, once everything that was asked for was read. Goes on where an earlier holder of the run ended.

    Raises RunLost, or Unavailable where store or database stay away.
    """
    report = VerifyReport.model_validate(held.report)
    slots = asyncio.Semaphore(parts.settings.verify_parallel)
    async for batch in _batches(database, held, report.cursor):
        found = await _hash(parts, slots, batch, held, report)
        damaged: list[DamagedBlob] = []
        for blob in (blob for blob, words in found.items() if words is not None):
            damage = await _put_aside(database, parts, held, blob, report)
            if damage is not None:
                damaged.append(damage)
        gone = {damage.sha256 for damage in damaged}
        async with database.begin() as uow:
            whole = await record_whole(uow, [blob.sha256 for blob in batch if blob.sha256 not in gone], held.run.id)
        report = report.model_copy(
            update={
                "num_blobs": report.num_blobs + len(batch),
                "num_bytes": report.num_bytes + sum(blob.size_bytes for blob in batch),
                "num_damaged": report.num_damaged + len(damaged),
                "damaged": [*report.damaged, *(damage for damage in damaged if damage.versions or damage.datasets or damage.artifacts)],
                "num_masters_elsewhere": report.num_masters_elsewhere + sum(damage.num_masters_elsewhere for damage in damaged),
                "ready_again": [*report.ready_again, *(version.ref for version in whole if version.project_id == held.run.project_id)],
                "cursor": batch[-1].sha256,
            }
        )
        await held.note(report.model_dump(mode="json"))
    return report


def words_of(report: VerifyReport) -> str:
    """Returns the one sentence that a run ends with."""
    if not report.num_damaged:
        return f"{report.num_blobs} blobs with {report.num_bytes} bytes are as they were sealed"
    masters = sorted({ref for blob in report.damaged for ref in blob.versions if ref.endswith(MASTER_MARK)})
    lost = f"; MASTERS ARE DAMAGED: {', '.join(masters)}: restore their bytes from a copy of the bucket" if masters else ""
    others = "; MASTERS OF OTHER PROJECTS ARE DAMAGED: the registry's log names them" if report.num_masters_elsewhere else ""
    return f"{report.num_damaged} of {report.num_blobs} blobs are damaged or missing{lost}{others}"


async def _batches(database: Database, held: HeldRun, cursor: str) -> AsyncIterator[list[Blob]]:
    """Yields what is to be read, by digest, a batch at a time."""
    request = VerifyRequest.model_validate(held.run.request)
    if request.version is not None:
        async with database.begin() as uow:
            files = await uow.versions.kept_files(request.version)
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


async def _put_aside(database: Database, parts: Parts, held: HeldRun, blob: Blob, report: VerifyReport) -> DamagedBlob | None:
    """Takes a damaged blob out of its key and notes it of all that hold it; returns None where it was collected meanwhile, or is
    right after all.

    The transaction spans the look and the move on purpose: while it lasts, whoever would note these bytes as sealed waits, and
    then looks whether they are still there.
    """
    async with database.begin() as uow:
        if not await uow.blobs.hold(blob.sha256):
            return None
        found, kept_at = await _move(uow, parts, held, blob, report)
        if found is None:
            return None
        damage = await record_damage(uow, blob.sha256, found, held.run.id)
    named = _named_of(blob, found, kept_at, damage, held.run.project_id)
    _log.error(
        "damaged blob",
        sha256=blob.sha256,
        found=found,
        versions=[f"{version.id} {_marked(version)}" for version in damage.versions],
        datasets=[ref for _, ref in damage.datasets],
        kept_at=kept_at,
    )
    return named


async def _move(uow: UnitOfWork, parts: Parts, held: HeldRun, blob: Blob, report: VerifyReport) -> SetAside:
    """Moves a blob out of its key. A large one takes minutes: meanwhile the claim is renewed and the transaction is not idle."""
    moving = asyncio.ensure_future(asyncio.to_thread(parts.vault.set_aside, blob.sha256, blob.size_bytes))
    try:
        while not (await asyncio.wait([moving], timeout=min(KEEP_ALIVE_S, parts.settings.vault_claim_s / 4)))[0]:
            await uow.now()
            await held.note(report.model_dump(mode="json"))
    finally:
        # Whatever ended the waiting, a thread is at it: the transaction that others wait for lasts as long.
        await asyncio.wait([moving])
    return moving.result()


def _named_of(blob: Blob, found: str, kept_at: str | None, damage: Damaged, project_id: str) -> DamagedBlob:
    """Returns a damage as a project is told of it: its own things by name, those of others as counts."""
    own = [version for version in damage.versions if version.project_id == project_id]
    others = [version for version in damage.versions if version.project_id != project_id]
    datasets = [ref for owner, ref in damage.datasets if owner == project_id]
    artifacts = [ref for owner, ref in damage.artifacts if owner == project_id]
    num_others = len(damage.datasets) - len(datasets) + len(damage.artifacts) - len(artifacts)
    return DamagedBlob(
        sha256=blob.sha256,
        size_bytes=blob.size_bytes,
        found=found,
        kept_at=kept_at,
        versions=[_marked(version) for version in own],
        datasets=datasets,
        artifacts=artifacts,
        num_elsewhere=len(others) + num_others,
        num_masters_elsewhere=sum(version.kind is VersionKind.MASTER for version in others),
    )


def _marked(version: Version) -> str:
    return version.ref + (MASTER_MARK if version.kind is VersionKind.MASTER else "")
