"""What the vault holds."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import SealRefused
from quantry_core.versions import ManifestFile
from quantry_store.tables import BlobRow


class BlobRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, sizes: dict[str, int]) -> None:
        """Notes blobs (size in bytes by SHA-256) as sealed; those that are there already stay as they are."""
        if not sizes:
            return
        # Sorted, so that two seals of the same files never wait for each other crosswise.
        rows = [{"sha256": sha256, "size_bytes": sizes[sha256]} for sha256 in sorted(sizes)]
        await self._session.execute(insert(BlobRow).values(rows).on_conflict_do_nothing(index_elements=[BlobRow.sha256]))

    async def check_sealed(self, files: Iterable[ManifestFile]) -> None:
        """Raises SealRefused naming the first file whose bytes are not in the vault, or are there with another size."""
        wanted = list(files)
        digests = {file.sha256 for file in wanted}
        found = await self._session.execute(select(BlobRow.sha256, BlobRow.size_bytes).where(BlobRow.sha256.in_(digests)))
        sizes = {sha256: size_bytes for sha256, size_bytes in found}
        for file in wanted:
            if file.sha256 not in sizes:
                raise SealRefused(f"{file.path} ({file.sha256}) is not in the vault; seal the files first")
            if sizes[file.sha256] != file.size_bytes:
                raise SealRefused(f"{file.path} has {sizes[file.sha256]} bytes in the vault, {file.size_bytes} were declared")
