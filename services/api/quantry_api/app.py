"""Puts the api together: its endpoints, its waker, its estimator, and the loops that run beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from fastapi import FastAPI

from quantry_api.audit.endpoints import new_walks
from quantry_api.audit.endpoints import router as audit
from quantry_api.demand import router as demand
from quantry_api.deployments.endpoints import router as deployments
from quantry_api.estimates.checkpoints import CheckpointLibrary
from quantry_api.estimates.endpoints import router as estimates
from quantry_api.estimates.estimator import Estimator
from quantry_api.execution.endpoints import router as execution
from quantry_api.fine_tuning.endpoints import router as fine_tuning
from quantry_api.gateways.endpoints import router as gateways
from quantry_api.jobs.endpoints import router as jobs
from quantry_api.jobs.stream import new_streams
from quantry_api.keys.endpoints import router as keys
from quantry_api.methods.endpoints import router as methods
from quantry_api.metrics import ApiMetrics, count_stale_writes
from quantry_api.pipelines.endpoints import router as pipelines
from quantry_api.platform.endpoints import router as platform
from quantry_api.projects.endpoints import router as projects
from quantry_api.queues.endpoints import router as queues
from quantry_api.retention.endpoints import router as retention
from quantry_api.retention.loop import RetentionLoop
from quantry_api.retention.settings import RetentionSettings
from quantry_api.rollouts.endpoints import router as rollouts
from quantry_api.routes.endpoints import router as routes
from quantry_api.schedules.endpoints import router as schedules
from quantry_api.schedules.loop import Scheduler
from quantry_api.schedules.service import TemplatePlanner
from quantry_api.sessions.endpoints import SignIns
from quantry_api.sessions.endpoints import router as sessions
from quantry_api.sessions.id_tokens import IdTokens
from quantry_api.sessions.settings import OidcSettings
from quantry_api.settings import SECONDS_PER_DAY, ApiSettings
from quantry_api.state import ApiState
from quantry_api.sweeps import Sweeper
from quantry_api.wake import Waker
from quantry_api.webhooks.endpoints import router as webhooks
from quantry_api.webhooks.posting import Poster
from quantry_api.webhooks.sender import SenderSettings, WebhookSender
from quantry_api.worker_hosts.endpoints import router as worker_hosts
from quantry_api.workers.endpoints import router as workers
from quantry_blobs.outbound import GuardedTransport
from quantry_blobs.outbound_settings import OutboundSettings
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Vault
from quantry_core.webhook_words import Links
from quantry_http.app import create_app
from quantry_http.metrics import Exposition
from quantry_store.capture_cipher import CaptureCipher
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_store.webhook_cipher import WebhookCipher
from quantry_telemetry.settings import TelemetrySettings

ROUTERS = (
    # Before jobs: /api/v1/jobs/estimate is no job's id.
    estimates,
    jobs,
    pipelines,
    schedules,
    fine_tuning,
    execution,
    workers,
    worker_hosts,
    queues,
    projects,
    deployments,
    rollouts,
    keys,
    sessions,
    audit,
    methods,
    routes,
    gateways,
    demand,
    webhooks,
    platform,
    retention,
)

QUICK = {"connect_timeout_s": 1.0, "read_timeout_s": 2.0, "num_retries": 0}
"""Of the api's reads from the object store: an estimate waits for nobody, and does without."""


@dataclass(frozen=True)
class _Loops:
    """What runs beside the requests."""

    sweeper: Sweeper
    scheduler: Scheduler
    remover: RetentionLoop
    sender: WebhookSender | None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the loops while the block does."""
        loops = [
            asyncio.create_task(self.sweeper.run(), name="sweeps"),
            asyncio.create_task(self.scheduler.run(), name="schedules"),
            asyncio.create_task(self.remover.run(), name="retention"),
        ]
        if self.sender is not None:
            loops.append(asyncio.create_task(self.sender.run(), name="webhooks"))
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            for loop in loops:
                with suppress(asyncio.CancelledError):
                    await loop


def build_app(
    settings: ApiSettings, store: StoreSettings, blobs: BlobSettings | None = None, outbound: OutboundSettings | None = None
) -> FastAPI:
    """Returns the api; its loops run, and database, waker and object store are open, between its start-up and its shutdown.

    Without ``blobs`` estimates know nothing of versions, and say so; all else works. ``outbound`` is that of the environment where
    it is not given.
    """
    metrics = ApiMetrics()
    database = Database(store.database_url, pool_size=10, on_commit=metrics.committed)
    waker = Waker(settings.broker_url.get_secret_value(), on_not_sent=metrics.wakes_failed.inc)
    library = CheckpointLibrary(_vault(blobs), settings.import_roots)
    estimator = _estimator(database, settings, library)
    guard, keeping, oidc = outbound or OutboundSettings(), RetentionSettings(), OidcSettings()
    webhook_cipher = None if settings.webhook_keys is None else WebhookCipher.of(settings.webhook_keys)
    sender = None if webhook_cipher is None else _sender(database, settings, guard, webhook_cipher, metrics)
    loops = _loops_of(database, settings, keeping=keeping, waker=waker, estimator=estimator, sender=sender, metrics=metrics)
    sign_ins = None if oidc.issuer is None else SignIns(oidc, IdTokens(oidc))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            async with loops.running():
                yield
        finally:
            await asyncio.to_thread(waker.close)
            library.close()
            if sign_ins is not None:
                await sign_ins.tokens.close()
            await database.close()

    app = create_app(
        "Quantry control plane",
        description="Jobs, pipelines, schedules, deployments, rollouts, keys, audit, and the execution API of workers.",
        database=database,
        # Health asks the database alone, not the broker: that only wakes workers, and while it is away jobs are still taken in.
        openapi_url="/api/v1/openapi.json",
        lifespan=lifespan,
        metrics=Exposition(metrics.registry, TelemetrySettings().metrics_token, metrics.read),
    )
    app.state.api = ApiState(
        settings=settings,
        waker=waker,
        estimator=estimator,
        nudge=loops.sweeper.nudge,
        capture_cipher=None if settings.capture_keys is None else CaptureCipher.of(settings.capture_keys),
        webhook_cipher=webhook_cipher,
        outbound_rules=guard.rules,
        retention=keeping,
        nudge_retention=loops.remover.nudge,
    )
    _attach(app, loops, metrics, sign_ins, store)
    return app


def _attach(app: FastAPI, loops: _Loops, metrics: ApiMetrics, sign_ins: SignIns | None, store: StoreSettings) -> None:
    """Gives the app what its endpoints take from it, and its endpoints."""
    app.state.webhooks = loops.sender
    app.state.sweeper = loops.sweeper
    app.state.sign_ins = sign_ins
    app.state.audit_walks = new_walks()
    app.state.event_streams = new_streams()
    app.state.metrics = metrics
    app.state.migrations_dir = store.migrations_dir
    count_stale_writes(app, metrics)
    for router in ROUTERS:
        app.include_router(router)


def _estimator(database: Database, settings: ApiSettings, library: CheckpointLibrary) -> Estimator:
    return Estimator(
        database,
        library,
        queues=settings.queues,
        default_resource=settings.default_resource,
        engine_device=settings.engine_device,
        has_deepspeed=settings.workers_have_deepspeed,
    )


def _loops_of(
    database: Database,
    settings: ApiSettings,
    *,
    keeping: RetentionSettings,
    waker: Waker,
    estimator: Estimator,
    sender: WebhookSender | None,
    metrics: ApiMetrics,
) -> _Loops:
    rounds = metrics.loops.round
    sweeper = Sweeper(database, waker.wake, interval_s=settings.sweep_interval_s, rounds=rounds)
    scheduler = Scheduler(
        database,
        TemplatePlanner(estimator, settings.import_places).prepare_stored,
        waker.wake,
        sweeper.nudge,
        interval_s=settings.schedule_interval_s,
        grace_s=settings.schedule_grace_s,
        rounds=rounds,
    )
    remover = RetentionLoop(database, keeping, poll_s=settings.sweep_interval_s, rounds=rounds, on_end=metrics.retention_ended)
    return _Loops(sweeper, scheduler, remover, sender)


def _sender(
    database: Database, settings: ApiSettings, outbound: OutboundSettings, cipher: WebhookCipher, metrics: ApiMetrics
) -> WebhookSender:
    """Returns the loop that sends webhooks by the guarded way out."""
    transport = GuardedTransport(outbound.rules, proxies=outbound.proxy_of)
    manner = SenderSettings(
        interval_s=settings.webhook_interval_s,
        timeout_s=settings.webhook_timeout_s,
        concurrency=settings.webhook_concurrency,
        disable_after_s=settings.webhook_disable_after_days * SECONDS_PER_DAY,
        links=Links(settings.public_url, settings.dashboard_url),
    )
    poster = Poster(transport, timeout_s=settings.webhook_timeout_s)
    return WebhookSender(database, poster, cipher, manner, rounds=metrics.loops.round, on_attempt=metrics.webhook_attempted)


def _vault(blobs: BlobSettings | None) -> Vault | None:
    return None if blobs is None else Vault(MinioStore(blobs.model_copy(update=QUICK)), blobs.vault_bucket)
