"""Keeps the routes fresh: long-polls the api, swaps the compiled snapshot, keeps it on disk, and lives on when the api is away."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import aiohttp
import structlog
from pydantic import SecretStr, ValidationError

from quantry_core.routes import RouteSnapshot
from quantry_gateway.kept_routes import KeptRoutes
from quantry_gateway.table import CompiledRoutes, RouteTable, compile_routes

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 1.0
"""So old may be what is served once the api is back: what was rolled out or undone meanwhile is heard of within it."""
_ANSWER_MARGIN_S = 10.0

_log = structlog.get_logger(__name__)


class RoutesUnavailable(Exception):
    """The api did not answer with routes this time."""


class RouteWatcher:
    """Follows the api's route revision for as long as the gateway runs."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        table: RouteTable,
        *,
        on_swap: Callable[[CompiledRoutes], None],
        kept: KeptRoutes,
        api_url: str,
        token: SecretStr,
        wait_s: float,
    ) -> None:
        self._session = session
        self._table = table
        self._on_swap = on_swap
        self._kept = kept
        self._url = f"{api_url}/internal/v1/routes"
        self._token = token
        self._wait_s = wait_s
        # A kept snapshot is served but not trusted as a revision: the database behind the api may be another one by now.
        self._seen_revision: int | None = None
        self.heard_at_s: float | None = None
        """When the api last answered, by time.monotonic: what is served is of then."""

    def load_kept(self) -> None:
        """Serves the snapshot of the last run, if there is one, until the api answers."""
        snapshot = self._kept.load()
        if snapshot is not None:
            self._serve(snapshot)
            _log.info("routes.loaded_kept", revision=snapshot.revision)

    async def run(self) -> None:
        """Polls until cancelled. An api that is away is logged once, then asked again with growing pauses."""
        num_failures = 0
        while True:
            try:
                snapshot = await self._poll()
                if snapshot is not None:
                    await self._adopt(snapshot)
            except RoutesUnavailable as error:
                if num_failures == 0:
                    _log.warning("routes.api_away", error=str(error))
            except Exception:  # a defect must not leave the gateway with the routes of this moment for ever
                _log.exception("routes.failed")
            else:
                self.heard_at_s = time.monotonic()
                if num_failures:
                    _log.info("routes.api_back", num_failures=num_failures)
                num_failures = 0
                continue
            await asyncio.sleep(_pause_s(num_failures) * random.uniform(0.5, 1.0))
            num_failures += 1

    async def _adopt(self, snapshot: RouteSnapshot) -> None:
        self._serve(snapshot)
        self._seen_revision = snapshot.revision
        _log.info("routes.changed", revision=snapshot.revision, num_routes=len(snapshot.routes))
        await self._keep(snapshot)

    def _serve(self, snapshot: RouteSnapshot) -> None:
        compiled = compile_routes(snapshot)
        self._table.swap(compiled)
        self._on_swap(compiled)

    async def _keep(self, snapshot: RouteSnapshot) -> None:
        try:
            await asyncio.to_thread(self._kept.save, snapshot)
        except OSError as error:
            # Serving matters more than surviving a restart.
            _log.error("routes.not_kept", error=str(error))

    async def _poll(self) -> RouteSnapshot | None:
        """Returns the routes once they differ from those seen; None if they did not while the api waited."""
        params = {"wait_s": f"{self._wait_s:g}"}
        if self._seen_revision is not None:
            params["after"] = str(self._seen_revision)
        headers = {"authorization": f"Bearer {self._token.get_secret_value()}"}
        timeout = aiohttp.ClientTimeout(total=self._wait_s + _ANSWER_MARGIN_S)
        try:
            # A redirect would carry the token elsewhere.
            async with self._session.get(self._url, params=params, headers=headers, timeout=timeout, allow_redirects=False) as response:
                if response.status == 204:
                    return None
                body = await response.read()
                if response.status != 200:
                    raise RoutesUnavailable(f"status {response.status}: {body[:300].decode(errors='replace')}")
                return RouteSnapshot.model_validate_json(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RoutesUnavailable(f"{type(error).__name__}: {error}") from error
        except ValidationError as error:
            raise RoutesUnavailable(f"the api's routes are not understood: {error}") from error


def _pause_s(num_failures: int) -> float:
    """Returns the longest pause after so many failures before this one: 0.2 s, doubled each time, 1 s at most."""
    return min(_FIRST_PAUSE_S * 2.0 ** min(num_failures, 10), _LONGEST_PAUSE_S)
