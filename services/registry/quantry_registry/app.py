"""Puts the registry together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from quantry_core.mlflow_errors import MLFLOW_PREFIX
from quantry_core.openai_errors import OPENAI_PREFIX
from quantry_http.app import create_app
from quantry_http.metrics import Exposition
from quantry_registry.artifacts.endpoints import router as artifacts_router
from quantry_registry.captures.endpoints import router as captures_router
from quantry_registry.checkpoints.endpoints import router as checkpoints_router
from quantry_registry.datasets.built_in import BUILT_INS, BuiltIn, run_seeding
from quantry_registry.datasets.deletion import router as dataset_deletion_router
from quantry_registry.datasets.endpoints import router as datasets_router
from quantry_registry.disk_full import install_disk_full_handler
from quantry_registry.files.endpoints import router as files_router
from quantry_registry.metrics import RegistryMetrics
from quantry_registry.mlflow.artifacts import router as mlflow_artifacts_router
from quantry_registry.mlflow.endpoints import router as mlflow_models_router
from quantry_registry.mlflow.endpoints import server_router as mlflow_server_router
from quantry_registry.mlflow.version_endpoints import router as mlflow_versions_router
from quantry_registry.models.endpoints import router as models_router
from quantry_registry.models.endpoints import usage_router
from quantry_registry.parts import Parts
from quantry_registry.seals.endpoints import router as seals_router
from quantry_registry.sweeps import run_sweeps
from quantry_registry.uploads.endpoints import router as uploads_router
from quantry_registry.vault.endpoints import router as vault_router
from quantry_registry.vault.service import run_vault_runs
from quantry_registry.versions.archiving import router as archiving_router
from quantry_registry.versions.deletion import router as deletion_router
from quantry_registry.versions.endpoints import router as versions_router
from quantry_registry.versions.modules import router as modules_router
from quantry_store.database import Database
from quantry_telemetry.settings import TelemetrySettings

API_PREFIX = "/api/v1"
OPENAPI_URL = f"{API_PREFIX}/registry/openapi.json"
MAX_BLOB_THREADS = 32
"""Blocking calls to the object store at once, but for uploads, which have threads of their own. Downloads must not wait for
seals, which hold a thread for long."""


def make_app(database: Database, parts: Parts, built_ins: Sequence[BuiltIn] = BUILT_INS) -> FastAPI:
    """Returns the registry's app. While it serves it also sweeps, and puts ``built_ins`` into every project; when it ends it
    closes ``database``.
    """

    metrics = RegistryMetrics()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(MAX_BLOB_THREADS, thread_name_prefix="blobs"))
        await parts.ensure_buckets()
        await parts.protect_vault()
        seeding = asyncio.create_task(run_seeding(database, parts, built_ins))
        sweeps = asyncio.create_task(run_sweeps(database, parts, metrics.loops.round))
        vault_runs = asyncio.create_task(run_vault_runs(database, parts))
        try:
            yield
        finally:
            for task in (seeding, sweeps, vault_runs):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await database.close()

    app = create_app(
        "Quantry registry",
        description="Models, versions, files, lineage, aliases, datasets, OpenAI's files API, and the seal.",
        database=database,
        health={"object store": parts.check_buckets},
        openapi_url=OPENAPI_URL,
        lifespan=lifespan,
        metrics=Exposition(metrics.registry, TelemetrySettings().metrics_token, metrics.read),
    )
    app.state.parts = parts
    install_disk_full_handler(app)
    routers = (
        models_router,
        usage_router,
        versions_router,
        deletion_router,
        archiving_router,
        modules_router,
        datasets_router,
        dataset_deletion_router,
        captures_router,
        uploads_router,
        seals_router,
        artifacts_router,
        checkpoints_router,
        vault_router,
    )
    for router in routers:
        app.include_router(router, prefix=API_PREFIX)
    app.include_router(files_router, prefix=OPENAI_PREFIX.rstrip("/"))
    for router in (mlflow_models_router, mlflow_versions_router, mlflow_artifacts_router, mlflow_server_router):
        app.include_router(router, prefix=MLFLOW_PREFIX.rstrip("/"))
    return app
