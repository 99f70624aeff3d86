"""``GET /healthz``: 200 only when everything the service needs answers. ``GET /livez``: 200 as long as the service itself does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from fastapi import APIRouter

from quantry_core.errors import Unavailable

HEALTH_TIMEOUT_S = 3.0

HealthCheck = Callable[[], Awaitable[None]]
"""Asks one part; raises anything when it does not answer."""

_log = structlog.get_logger(__name__)


def health_router(checks: Mapping[str, HealthCheck]) -> APIRouter:
    """Returns the router of /healthz and /livez; ``checks`` are asked side by side, each for at most HEALTH_TIMEOUT_S."""
    router = APIRouter()

    @router.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        answers = await asyncio.gather(*(_answers(name, check) for name, check in checks.items()))
        away = [name for name, is_well in zip(checks, answers, strict=True) if not is_well]
        if away:
            raise Unavailable(f"no answer from: {', '.join(away)}")
        return {"status": "ok"}

    @router.get("/livez", include_in_schema=False)
    async def livez() -> dict[str, str]:
        # Whoever restarts what does not live must not restart a service whose database is away: that would help nobody.
        return {"status": "ok"}

    return router


async def _answers(name: str, check: HealthCheck) -> bool:
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            await check()
    except Exception as error:  # whatever it raises means: not well
        _log.warning("health check failed", part=name, error=repr(error))
        return False
    return True
