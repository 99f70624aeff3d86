"""The repositories that retention works with, together: nothing else uses them."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from quantry_store.repositories.blobs import BlobRepository
from quantry_store.repositories.quarantined import QuarantinedRepository
from quantry_store.repositories.retained_rows import RetainedRowRepository
from quantry_store.repositories.retention_runs import RetentionRunRepository


class RetentionRepositories(NamedTuple):
    """Reports, rows that go as they are, and versions that let go of their bytes."""

    runs: RetentionRunRepository
    rows: RetainedRowRepository
    quarantined: QuarantinedRepository

    @classmethod
    def of(cls, session: AsyncSession, blobs: BlobRepository) -> RetentionRepositories:
        """Returns them, bound to one transaction."""
        return cls(RetentionRunRepository(session), RetainedRowRepository(session), QuarantinedRepository(session, blobs=blobs))
