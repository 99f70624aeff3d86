"""What an attempt leaves beside its version: noted when it is sealed, recorded when the attempt finishes with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from quantry_core.errors import InvalidInput
from quantry_core.jobs import Job
from quantry_core.versions import ManifestFile, SealRequest, manifest_digest
from quantry_store.transactions.vault import note_blobs, note_seal
from quantry_store.unit_of_work import UnitOfWork


async def record_artifact_seal(uow: UnitOfWork, request: SealRequest) -> None:
    """Notes that the bytes of the files are in the vault, and that this attempt may leave exactly these artifacts.

    The attempt's last seal of artifacts wins. Raises StaleAttempt if the attempt no longer holds its job, SealRefused where the
    vault knows a digest with another size.
    """
    job = await uow.leases.hold(request.job_id, request.attempt)
    await note_blobs(uow, request.files)
    await uow.seals.record_artifacts(job, manifest_digest(request.files))
    await note_seal(uow, job, "job.seal_artifacts", request.files)


async def record_artifacts(uow: UnitOfWork, job: Job, files: Sequence[ManifestFile]) -> None:
    """Records what a held job leaves.

    Raises InvalidInput for a path that is named twice, SealRefused unless the files are exactly what the attempt sealed as artifacts.
    """
    path, count = Counter(file.path for file in files).most_common(1)[0]
    if count > 1:
        raise InvalidInput(f"the artifact {path} is named {count} times")
    await uow.seals.check_artifacts(job, files)
    await uow.artifacts.add(job, files)
