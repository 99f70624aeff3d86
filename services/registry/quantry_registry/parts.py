"""What an endpoint of this service works with, beside the database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

import structlog
from fastapi import Depends, Request

from quantry_blobs.settings import BlobSettings
from quantry_blobs.stores import ObjectStore
from quantry_blobs.vault import Staging, Vault
from quantry_registry.settings import RegistrySettings
from quantry_registry.uploads.slots import UploadSlots
from quantry_store.capture_cipher import CaptureCipher

_log = structlog.get_logger(__name__)

MAX_SEALS_AT_ONCE = 4
"""Files hashed at the same time, over all requests; more would only share the same processors and disks."""

HEALTH_PREFIX = "health/"
"""Nothing lies here: listing it asks whether the bucket is there and costs nothing."""


@dataclass(frozen=True)
class Parts:
    """Settings, the two buckets, and how much is done at once."""

    settings: RegistrySettings
    store: ObjectStore
    vault: Vault
    staging: Staging
    upload_slots: UploadSlots
    capture_cipher: CaptureCipher | None = None
    """Opens captured prompts; None: none can be."""
    seal_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_SEALS_AT_ONCE))

    async def ensure_buckets(self) -> None:
        """Makes the buckets that are missing; raises StoreUnavailable or StoreRefused if it cannot."""
        for bucket in (self.vault.bucket, self.staging.bucket):
            await asyncio.to_thread(self.store.ensure_bucket, bucket)

    async def protect_vault(self) -> None:
        """Has the vault's bucket keep what is overwritten and removed, as far as it really can; says in the log what was found."""
        if not self.settings.vault_versioning:
            return
        await asyncio.to_thread(self.vault.protect, self.settings.vault_retention_s)
        found = self.vault.protection
        _log.info("vault looked at", bucket=self.vault.bucket, keeps_versions=found.versioning, locks_objects=found.object_lock)

    async def check_buckets(self) -> None:
        """Raises StoreUnavailable or StoreRefused unless both buckets are there. A health check never makes a missing vault."""
        for bucket in (self.vault.bucket, self.staging.bucket):
            await asyncio.to_thread(self._ask, bucket)

    def _ask(self, bucket: str) -> None:
        for _key in self.store.list(bucket, HEALTH_PREFIX):
            return


def make_parts(settings: RegistrySettings, blob_settings: BlobSettings, store: ObjectStore) -> Parts:
    """Returns the parts over a store, with the buckets that ``blob_settings`` names."""
    vault = Vault(store, blob_settings.vault_bucket)
    return Parts(
        settings=settings,
        store=store,
        vault=vault,
        staging=Staging(store, blob_settings.staging_bucket),
        upload_slots=UploadSlots(settings.max_uploads_at_once),
        capture_cipher=None if settings.capture_keys is None else CaptureCipher.of(settings.capture_keys),
    )


async def parts_of(request: Request) -> Parts:
    """Returns the parts of the service that answers this request."""
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(parts_of)]
"""The service's parts."""
