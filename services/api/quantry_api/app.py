"""Puts the api together: its endpoints, its waker, its sweep loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from quantry_api.audit.endpoints import router as audit
from quantry_api.deployments.endpoints import router as deployments
from quantry_api.execution.endpoints import router as execution
from quantry_api.jobs.endpoints import router as jobs
from quantry_api.keys.endpoints import router as keys
from quantry_api.methods.endpoints import router as methods
from quantry_api.routes.endpoints import router as routes
from quantry_api.settings import ApiSettings
from quantry_api.state import ApiState
from quantry_api.sweeps import Sweeper
from quantry_api.wake import Waker
from quantry_http.app import create_app
from quantry_store.database import Database
from quantry_store.settings import StoreSettings

ROUTERS = (jobs, execution, deployments, keys, audit, methods, routes)


def build_app(settings: ApiSettings, store: StoreSettings) -> FastAPI:
    """Returns the api; the sweep loop runs, and the database and the waker are open, between its start-up and its shutdown."""
    database = Database(store.database_url, pool_size=10)
    waker = Waker(settings.broker_url.get_secret_value())
    sweeper = Sweeper(database, waker.wake, interval_s=settings.sweep_interval_s)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(sweeper.run(), name="sweeps")
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            await asyncio.to_thread(waker.close)
            await database.close()

    app = create_app(
        "Quantry control plane",
        description="Jobs, deployments, keys, audit, and the execution API of workers.",
        database=database,
        # Health asks the database alone, not the broker: that only wakes workers, and while it is away jobs are still taken in.
        openapi_url="/api/v1/openapi.json",
        lifespan=lifespan,
    )
    app.state.api = ApiState(settings=settings, waker=waker)
    for router in ROUTERS:
        app.include_router(router)
    return app
