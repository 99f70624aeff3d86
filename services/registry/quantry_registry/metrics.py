"""What the registry tells Prometheus beside its requests: its sweeps, and the vault as the database and the last verification know it."""

from __future__ import annotations

from prometheus_client import Gauge

from quantry_store.unit_of_work import UnitOfWork
from quantry_telemetry.loops import LoopMetrics
from quantry_telemetry.registry import service_registry


class RegistryMetrics:
    """The metrics of one app, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = service_registry("registry")
        self.loops = LoopMetrics(self.registry)
        self._blobs = Gauge("quantry_vault_blobs", "Blobs that the vault is to hold.", registry=self.registry)
        self._bytes = Gauge("quantry_vault_size_bytes", "Bytes of those blobs.", registry=self.registry)
        self._damaged = Gauge(
            "quantry_vault_damaged_blobs", "Blobs that the last verification found damaged or missing.", registry=self.registry
        )
        self._verified_at = Gauge(
            "quantry_vault_verified_timestamp_seconds",
            "When a verification last came to its end, since 1970; 0: never.",
            registry=self.registry,
        )

    async def read(self, uow: UnitOfWork) -> None:
        """Sets the gauges to what the database says."""
        num_blobs, num_bytes = await uow.counts.stored_blobs()
        verified = await uow.counts.last_verification()
        self._blobs.set(num_blobs)
        self._bytes.set(num_bytes)
        self._damaged.set(0 if verified is None else verified.num_damaged)
        self._verified_at.set(0 if verified is None else verified.finished_at.timestamp())
