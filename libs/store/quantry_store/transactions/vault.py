"""What the registry notes after it sealed files."""

from __future__ import annotations

from quantry_core.versions import SealRequest, manifest_digest
from quantry_store.unit_of_work import UnitOfWork


async def record_seal(uow: UnitOfWork, request: SealRequest, *, dtype: str | None) -> None:
    """Notes that the bytes of the files are in the vault, and that this attempt may finish with exactly these files.

    The attempt's last seal wins. ``dtype`` is what the registry found in a master's weights, None for other checkpoints.
    Raises StaleAttempt if the attempt no longer holds its job, SealRefused where the vault knows a digest with another size.
    """
    job = await uow.leases.hold(request.job_id, request.attempt)
    await uow.blobs.add({file.sha256: file.size_bytes for file in request.files})
    await uow.blobs.check_sealed(request.files)
    await uow.seals.record(job, manifest_digest(request.files), dtype=dtype)
