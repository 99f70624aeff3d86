"""``python -m quantry_deploy``: the rollout controller, with a health endpoint beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import structlog
from fastapi import FastAPI

from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Vault
from quantry_core.errors import QuantryError
from quantry_core.secret_files import take_secret_files
from quantry_deploy.analysis.prometheus import Prometheus
from quantry_deploy.artifacts import ArtifactCache
from quantry_deploy.controller import Controller
from quantry_deploy.directory import hold_directory
from quantry_deploy.drivers.table import make_driver
from quantry_deploy.judging import Judging
from quantry_deploy.ledger import Ledger
from quantry_deploy.metrics import DeployMetrics
from quantry_deploy.policy import Policy
from quantry_deploy.reconcile import Reconciler
from quantry_deploy.settings import DeploySettings
from quantry_http.app import create_app
from quantry_http.metrics import Exposition
from quantry_http.server import serve
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_telemetry.logs import configure_logging
from quantry_telemetry.settings import TelemetrySettings
from quantry_telemetry.traces import configure_tracing, end_tracing_with_process

SETTLE_S = 1.0
"""A pass that is starting an engine is given this long to record it when the controller ends."""

_log = structlog.get_logger(__name__)


def main() -> None:
    """Runs the controller until SIGTERM or SIGINT. Exits with a sentence if another one holds its directory."""
    take_secret_files("quantry-deploy")
    settings = DeploySettings()
    configure_logging("deploy")
    configure_tracing("deploy")
    end_tracing_with_process()
    with hold_directory(settings.deploy_dir):
        serve(make_app(settings, StoreSettings(), BlobSettings()), settings.deploy_host, settings.deploy_port)


def make_app(settings: DeploySettings, store: StoreSettings, blobs: BlobSettings) -> FastAPI:
    """Returns the health app, whose life is the controller's life."""
    database = Database(store.database_url)
    objects = MinioStore(blobs)
    cache = ArtifactCache(Vault(objects, blobs.vault_bucket), settings.deploy_dir / "cache", max_bytes=settings.deploy_cache_bytes)
    metrics = DeployMetrics()
    ledger = Ledger(database, on_move=metrics.moved, on_judged=metrics.judged)
    controllers: list[Controller] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        driver = make_driver(settings, cache)
        prometheus = None if settings.prometheus_url is None else Prometheus(settings.prometheus_url)
        reconciler = Reconciler(ledger, driver, make_policy(settings), Judging(ledger, prometheus))
        controller = Controller(ledger, driver, reconciler, interval_s=settings.reconcile_interval_s, metrics=metrics)
        controllers.append(controller)
        loop = asyncio.create_task(controller.run())
        try:
            yield
        finally:
            await end(controller, loop, settings)
            await reconciler.close()
            if prometheus is not None:
                await prometheus.close()
            await driver.close()
            await database.close()
            await asyncio.to_thread(objects.close)

    async def check_vault() -> None:
        await asyncio.to_thread(objects.stat, blobs.vault_bucket, "sha256/health")

    async def check_controller() -> None:
        for controller in controllers:
            await controller.check()

    checks = {"vault": check_vault, "controller": check_controller}
    exposition = Exposition(metrics.registry, TelemetrySettings().metrics_token)
    return create_app("Quantry deploy", database=database, health=checks, lifespan=lifespan, metrics=exposition)


def make_policy(settings: DeploySettings) -> Policy:
    """Returns the policy of a controller that starts now; it begins to count once it has seen the records."""
    return Policy(
        resumed_at=datetime.now(UTC),
        drain_s=settings.drain_s,
        stop_grace_s=settings.stop_grace_s,
        start_timeout_s=settings.start_timeout_s,
        lost_after_s=settings.lost_after_s,
    )


async def end(controller: Controller, loop: asyncio.Task[None], settings: DeploySettings) -> None:
    """Ends the loop, and the replicas with it where the settings say so. The records then say stopped."""
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
    await controller.settle(within_s=SETTLE_S)
    if not settings.stops_replicas:
        return
    try:
        await controller.stop_replicas(within_s=settings.exit_grace_s)
    except QuantryError as error:
        _log.warning("replicas not recorded as stopped; the next controller finds them gone", error=error.detail)


if __name__ == "__main__":
    main()
