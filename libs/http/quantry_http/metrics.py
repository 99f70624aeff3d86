"""``GET /metrics`` of a service: what its registry holds, for whoever may read it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import SecretStr

from quantry_core.errors import Unauthorized, Unavailable
from quantry_store.database import Database
from quantry_store.unit_of_work import UnitOfWork
from quantry_telemetry.reading import may_read

PATIENCE_S = 4.0
"""For the database, in one scrape: Prometheus gives up after ten by default."""

_log = structlog.get_logger(__name__)

ReadGauges = Callable[[UnitOfWork], Awaitable[None]]
"""Sets gauges to what the database says."""


async def _read_nothing(_uow: UnitOfWork) -> None:
    """What is read where a service has no gauges of the database."""


@dataclass(frozen=True)
class Exposition:
    """What a service shows: its registry, who may read it, and what is read from the database at each scrape."""

    registry: CollectorRegistry
    token: SecretStr | None = None
    read_gauges: ReadGauges = field(default=_read_nothing)


def metrics_router(exposition: Exposition, database: Database) -> APIRouter:
    """Returns the router of /metrics. Without its token it asks for no key: the gateway does not forward this path."""
    router = APIRouter()
    is_up = Gauge("quantry_database_up", "1 while the database answers this service, else 0.", registry=exposition.registry)

    @router.get("/metrics", include_in_schema=False)
    async def show_metrics(authorization: Annotated[str | None, Header()] = None) -> Response:
        if not may_read(authorization, exposition.token):
            raise Unauthorized("metrics need the token of QUANTRY_METRICS_TOKEN: send it as 'Authorization: Bearer ...'")
        try:
            async with asyncio.timeout(PATIENCE_S), database.begin() as uow:
                await exposition.read_gauges(uow)
        except (Unavailable, TimeoutError) as error:
            # What the process counted is as true as ever; gauges of the database keep what they said last, and this says so.
            _log.warning("metrics.database_away", detail=str(error) or "no answer in time")
            is_up.set(0)
        else:
            is_up.set(1)
        return Response(generate_latest(exposition.registry), media_type=CONTENT_TYPE_LATEST)

    return router
