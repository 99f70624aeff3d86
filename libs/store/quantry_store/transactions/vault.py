"""What the registry notes after it sealed files."""

from __future__ import annotations

from quantry_core.versions import ManifestFile
from quantry_store.unit_of_work import UnitOfWork


async def record_blobs(uow: UnitOfWork, files: list[ManifestFile]) -> None:
    """Notes that the bytes of ``files`` are in the vault. Raises SealRefused where the vault knows a digest with another size."""
    await uow.blobs.add({file.sha256: file.size_bytes for file in files})
    await uow.blobs.check_sealed(files)
