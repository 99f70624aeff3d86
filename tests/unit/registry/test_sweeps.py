from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

from structlog.testing import capture_logs

from quantry_blobs.errors import StoreUnavailable
from quantry_blobs.stores import ObjectStore
from quantry_blobs.vault import Staging, Vault
from quantry_registry.parts import Parts
from quantry_registry.settings import RegistrySettings
from quantry_registry.sweeps import run_sweeps
from quantry_registry.uploads.slots import UploadSlots
from quantry_store.database import Database


class FailingStaging:
    """Fails in one way, then in another, then says that it was asked a third time."""

    def __init__(self) -> None:
        self.failures: list[Exception] = [StoreUnavailable("away"), ValueError("broken")]
        self.is_asked_again = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def attempts(self) -> set[tuple[str, int]]:
        if not self.failures:
            self._loop.call_soon_threadsafe(self.is_asked_again.set)
            raise StoreUnavailable("still away")
        raise self.failures.pop(0)


async def test_a_sweep_that_fails_is_followed_by_the_next() -> None:
    staging = FailingStaging()
    parts = Parts(
        settings=RegistrySettings(registry_port=1, registry_sweep_interval_s=0.001),
        store=cast(ObjectStore, None),
        vault=cast(Vault, None),
        staging=cast(Staging, staging),
        upload_slots=UploadSlots(1),
    )
    with capture_logs() as lines:
        sweeping = asyncio.create_task(run_sweeps(cast(Database, None), parts))
        async with asyncio.timeout(10):
            await staging.is_asked_again.wait()
        assert not sweeping.done()
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
    assert [line["event"] for line in lines[:2]] == ["sweep failed", "sweep crashed"]
