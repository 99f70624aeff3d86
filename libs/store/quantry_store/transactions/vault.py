"""What the registry notes of the vault: what it holds, what an attempt sealed, and what was found damaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quantry_core.vault import INTEGRITY
from quantry_core.versions import (
    EvidenceDraft,
    EvidenceKind,
    ManifestFile,
    SealRequest,
    Verdict,
    Version,
    VersionKind,
    VersionState,
    manifest_digest,
)
from quantry_store.unit_of_work import UnitOfWork


class Damaged(NamedTuple):
    """What a damaged or missing blob is part of."""

    versions: list[Version]
    datasets: list[str]
    """As ``name@number``."""

    artifacts: list[str]
    """As ``job_.../path``."""


async def note_blobs(uow: UnitOfWork, files: Sequence[ManifestFile]) -> None:
    """Notes that the vault holds the bytes of these files; raises SealRefused where it knows a digest with another size.

    Waits for a collection that is removing one of these objects this moment: the caller looks for the objects once more
    after the commit, from which on none of them is collected.
    """
    await uow.blobs.add({file.sha256: file.size_bytes for file in files})
    await uow.blobs.check_sealed(files)


async def record_seal(uow: UnitOfWork, request: SealRequest, *, dtype: str | None) -> None:
    """Notes that the bytes of the files are in the vault, and that this attempt may finish with exactly these files.

    The attempt's last seal wins. ``dtype`` is what the registry found in a master's weights, None for other checkpoints.
    Raises StaleAttempt if the attempt no longer holds its job, SealRefused where the vault knows a digest with another size.
    """
    job = await uow.leases.hold(request.job_id, request.attempt)
    await note_blobs(uow, request.files)
    await uow.seals.record(job, manifest_digest(request.files), dtype=dtype)


async def record_damage(uow: UnitOfWork, sha256: str, found: str, run_id: str) -> Damaged:
    """Returns what holds a damaged blob, after it was noted of each version as evidence; ready ones are quarantined.

    A master's state never changes: its evidence says it, and its bytes cannot be had. ``found`` says what is wrong.
    """
    holders = await uow.blobs.holders(sha256)
    versions = []
    for project_id, version_id in holders.versions:
        version = await uow.deletions.hold(project_id, version_id)
        draft = EvidenceDraft(
            kind=EvidenceKind.GATE,
            name=INTEGRITY,
            verdict=Verdict.FAIL,
            metrics={"sha256": sha256, "found": found, "vault_run_id": run_id, "files": await _paths(uow, version, sha256)},
        )
        await uow.evidence.note(version, draft)
        if version.kind is not VersionKind.MASTER and version.state is VersionState.READY:
            await uow.versions.quarantine(version.id)
        data = {"ref": version.ref, "sha256": sha256, "found": found}
        await uow.audit.record(None, "version.damaged", "version", version.id, data, project_id=version.project_id)
        versions.append(await uow.versions.get(version.project_id, version.id))
    return Damaged(versions, holders.datasets, holders.artifacts)


async def _paths(uow: UnitOfWork, version: Version, sha256: str) -> list[str]:
    return [file.path for file in await uow.versions.files(version.id) if file.sha256 == sha256]
