"""What the registry notes of the vault: what it holds, what an attempt sealed, and what was found damaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quantry_core.jobs import Job
from quantry_core.vault import INTEGRITY
from quantry_core.versions import (
    Evidence,
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
    datasets: list[tuple[str, str]]
    """Project, and ``name@number``."""

    artifacts: list[tuple[str, str]]
    """Project, and ``job_.../path``; files of checkpoints as ``job_.../checkpoints/20/path``."""


async def note_blobs(uow: UnitOfWork, files: Sequence[ManifestFile]) -> None:
    """Notes that the vault holds the bytes of these files; raises SealRefused where it knows a digest with another size.

    Waits for a collection that is removing one of these objects this moment: the caller looks for the objects once more
    after the commit, from which on none of them is collected.
    """
    await uow.blobs.add({file.sha256: file.size_bytes for file in files})
    await uow.blobs.check_sealed(files)


async def note_checkpoint_blobs(uow: UnitOfWork, files: Sequence[ManifestFile]) -> None:
    """Does as ``note_blobs``, for files that a job needs only for as long as it may go on from them."""
    await uow.blobs.add_of_checkpoint({file.sha256: file.size_bytes for file in files})
    await uow.blobs.check_sealed(files)


async def record_seal(uow: UnitOfWork, request: SealRequest, *, dtype: str | None) -> None:
    """Notes that the bytes of the files are in the vault, and that this attempt may finish with exactly these files.

    The attempt's last seal wins. ``dtype`` is what the registry found in a master's weights, None for other checkpoints.
    Raises StaleAttempt if the attempt no longer holds its job, SealRefused where the vault knows a digest with another size.
    """
    job = await uow.leases.hold(request.job_id, request.attempt)
    await note_blobs(uow, request.files)
    await uow.seals.record(job, manifest_digest(request.files), dtype=dtype)
    await note_seal(uow, job, "job.seal", request.files)


async def note_seal(uow: UnitOfWork, job: Job, action: str, files: Sequence[ManifestFile], **facts: int) -> None:
    """Has the audit log tell what an attempt put into the vault."""
    told = {"attempt": job.attempt, "manifest_digest": manifest_digest(list(files)), "num_files": len(files), **facts}
    await uow.audit.record(None, action, "job", job.id, told, project_id=job.project_id)


async def record_damage(uow: UnitOfWork, sha256: str, found: str, run_id: str) -> Damaged:
    """Returns what holds a damaged blob, after it was noted of each version as evidence; ready ones are quarantined.

    A version of which the same was noted before, and nothing better since, is left as it is. A master's state never changes:
    its evidence says it, and its bytes cannot be had. A checkpoint of a job lets go of its files: the next attempt goes on from
    an earlier one. ``found`` says what is wrong.
    """
    holders = await uow.blobs.holders(sha256)
    versions = []
    for project_id, version_id in holders.versions:
        version = await uow.deletions.hold(project_id, version_id)
        newest = _newest(await _findings(uow, version)).get(sha256)
        if newest is None or newest.metrics.get("found") != found:
            await _note_damage(uow, version, sha256, found, run_id)
        versions.append(await uow.versions.get(version.project_id, version.id))
    await uow.checkpoints.drop_with(sha256)
    return Damaged(versions, holders.datasets, [*holders.artifacts, *holders.checkpoints])


async def record_whole(uow: UnitOfWork, digests: Sequence[str], run_id: str) -> list[Version]:
    """Notes that these blobs were hashed just now and were right; returns the versions that are ready again for it.

    A version that was told of a damage of one of them is told that it is over. It is ready again where a verification, and
    not its gate, had quarantined it, and no other file of it is known as damaged.
    """
    await uow.blobs.note_verified(digests)
    ready_again = []
    for project_id, version_id, sha256 in await uow.evidence.told_of(INTEGRITY, digests):
        version = await uow.deletions.hold(project_id, version_id)
        findings = await _findings(uow, version)
        damaged = {digest for digest, finding in _newest(findings).items() if finding.verdict is Verdict.FAIL}
        if sha256 not in damaged:
            continue
        metrics = {"sha256": sha256, "vault_run_id": run_id, "files": await _paths(uow, version, sha256)}
        await uow.evidence.note(version, EvidenceDraft(kind=EvidenceKind.GATE, name=INTEGRITY, verdict=Verdict.PASS, metrics=metrics))
        is_for_damage = any(finding.metrics.get("quarantined") is True for finding in findings)
        if damaged == {sha256} and version.state is VersionState.QUARANTINED and is_for_damage:
            await uow.versions.end_quarantine(version.id)
            ready_again.append(await uow.versions.get(version.project_id, version.id))
        data = {"ref": version.ref, "sha256": sha256}
        await uow.audit.record(None, "version.whole", "version", version.id, data, project_id=version.project_id)
    return ready_again


async def _note_damage(uow: UnitOfWork, version: Version, sha256: str, found: str, run_id: str) -> None:
    is_quarantined_now = version.kind is not VersionKind.MASTER and version.state is VersionState.READY
    metrics = {
        "sha256": sha256,
        "found": found,
        "vault_run_id": run_id,
        "files": await _paths(uow, version, sha256),
        "quarantined": is_quarantined_now,
    }
    await uow.evidence.note(version, EvidenceDraft(kind=EvidenceKind.GATE, name=INTEGRITY, verdict=Verdict.FAIL, metrics=metrics))
    if is_quarantined_now:
        await uow.versions.quarantine(version.id)
    data = {"ref": version.ref, "sha256": sha256, "found": found}
    await uow.audit.record(None, "version.damaged", "version", version.id, data, project_id=version.project_id)


async def _findings(uow: UnitOfWork, version: Version) -> list[Evidence]:
    """Returns what verifications found of a version, oldest first; a worker's evidence of that name is none of it."""
    evidence = await uow.evidence.list(version.id)
    return [item for item in evidence if item.name == INTEGRITY and {"sha256", "vault_run_id"} <= item.metrics.keys()]


def _newest(findings: list[Evidence]) -> dict[str, Evidence]:
    """Returns the newest finding about each digest of which there is any."""
    return {item.metrics["sha256"]: item for item in findings}


async def _paths(uow: UnitOfWork, version: Version, sha256: str) -> list[str]:
    return [file.path for file in await uow.versions.files(version.id) if file.sha256 == sha256]
