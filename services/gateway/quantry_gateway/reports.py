"""Tells the api once each second what was counted, until it has heard: numbered, so that a report told twice counts once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import structlog

from quantry_core.traffic import Demand, TrafficReport, TrafficWindow
from quantry_gateway.backlog import Backlog
from quantry_gateway.tallies import Tallies
from quantry_gateway.telling import ApiAway, ReportRefused, Teller, pause_s

PATH = "/internal/v1/traffic"
MAX_REPORT_WINDOWS = 200
"""So that a report stays below the size of body that the api takes, whatever its histograms hold."""
MAX_REPORT_DEMANDS = 1000

_TIMEOUT_S = 10.0

_log = structlog.get_logger(__name__)

Demands = Callable[[], list[Demand]]
"""Tells which requests wait for a replica at this moment."""


class Reporter:
    """One gateway process's reports. Its id is made anew with it, and its numbers begin at 1."""

    def __init__(
        self,
        teller: Teller,
        tallies: Tallies,
        demands: Demands,
        *,
        interval_s: float,
        max_backlog_windows: int,
        used_keys: Callable[[], list[str]] = list,
    ) -> None:
        self._teller = teller
        self._used_keys = used_keys
        self._tallies = tallies
        self._demands = demands
        self._interval_s = interval_s
        self._backlog = Backlog(max_windows=max_backlog_windows)
        self._gateway_id = f"gw_{secrets.token_hex(16)}"
        self._sequence = 1
        # What the report of this number says of the past. It stays as it is while it is told again: the api may have it already.
        self._telling: list[TrafficWindow] = []
        self._num_failures = 0

    async def run(self) -> None:
        """Reports until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            self._cut()
            try:
                await self._tell_next(timeout_s=_TIMEOUT_S)
                while len(self._backlog):
                    await self._tell_next(timeout_s=_TIMEOUT_S)
            except ApiAway as error:
                if not self._num_failures:
                    _log.warning("traffic.api_away", error=str(error))
                await self._wait_out(pause_s(self._num_failures))
                self._num_failures += 1
            except Exception:  # a defect must not leave the analyses without evidence for ever
                _log.exception("traffic.failed")

    async def flush(self, *, timeout_s: float) -> None:
        """Tells what is left, as far as that goes in the time; what the api does not hear by then is logged and lost."""
        self._cut()
        try:
            async with asyncio.timeout(timeout_s):
                while self._telling or len(self._backlog):
                    await self._tell_next(timeout_s=timeout_s)
        except (ApiAway, TimeoutError) as error:
            _log.error("traffic.lost", num_windows=len(self._telling) + len(self._backlog), error=str(error) or "no time left")

    async def _wait_out(self, wait_s: float) -> None:
        """Waits while the api is away. Windows are cut all the time, so that the evidence keeps its order."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while (left_s := until_s - loop.time()) > 0:
            await asyncio.sleep(min(left_s, self._interval_s))
            self._cut()

    def _cut(self) -> None:
        self._backlog.add(self._tallies.cut())

    async def _tell_next(self, *, timeout_s: float) -> None:
        """Tells one report, if there is anything to tell. Raises ApiAway: the same windows come next, with the same number."""
        self._telling = self._telling or self._backlog.take(MAX_REPORT_WINDOWS)
        # Who waits is told as it is now, however old the windows are: a demand of an hour ago would start a replica for nobody.
        demands = self._demands()[:MAX_REPORT_DEMANDS]
        if not self._telling and not demands:
            return
        report = TrafficReport(
            gateway_id=self._gateway_id, sequence=self._sequence, windows=self._telling, demands=demands, key_ids=self._used_keys()
        )
        try:
            await self._teller.post(PATH, report, timeout_s=timeout_s)
        except ReportRefused as error:
            # The same bytes would be refused again, and hold up all that follow.
            _log.error("traffic.refused", error=str(error), num_windows=len(self._telling))
        except BaseException:
            # Without windows nothing has to be said again. The number is spent, since the api may have heard it, also where this
            # task is cancelled: what the next report tells of would pass for this one otherwise.
            self._sequence += not self._telling
            raise
        self._told()

    def _told(self) -> None:
        if self._num_failures:
            _log.info("traffic.api_back", num_failures=self._num_failures)
        self._num_failures = 0
        self._telling = []
        self._sequence += 1
