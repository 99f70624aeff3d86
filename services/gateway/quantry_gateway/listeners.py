"""Which listeners a gateway has: what is counted, sampled and limited of its requests, and who tells the api of it."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from quantry_gateway.answered import Answers
from quantry_gateway.captures import Captures, CaptureTeller
from quantry_gateway.feedback import AnswerFeedback
from quantry_gateway.hooks import Hooks, Surroundings
from quantry_gateway.limits import RateLimits
from quantry_gateway.mirrors import Mirrors
from quantry_gateway.reports import Reporter
from quantry_gateway.sampling import WatchedDeployments
from quantry_gateway.tallies import Tallies
from quantry_gateway.telling import Teller
from quantry_gateway.used_keys import UsedKeys

FLUSH_S = 0.7
"""For what was not told yet when the gateway stops. It has a second for everything that follows its last answer."""

_CONNECT_S = 2.0


def build_hooks(surroundings: Surroundings) -> Hooks:
    """Returns what is plugged into the path of requests."""
    listeners = Listeners(surroundings)
    return Hooks(
        sinks=(listeners.tallies.tell, listeners.used_keys.tell, listeners.answers.tell, listeners.captures.tell, listeners.mirrors.tell),
        limits=RateLimits(),
        feedback=AnswerFeedback(listeners.answers),
        background=(listeners.run,),
    )


class Listeners:
    """The listeners of one gateway, and what they do beside the requests."""

    def __init__(self, surroundings: Surroundings) -> None:
        settings = surroundings.settings
        self._settings = settings
        self._waiting = surroundings.waiting
        watched = WatchedDeployments(surroundings.table)
        self.tallies = Tallies()
        self.used_keys = UsedKeys(clock_s=time.monotonic)
        self.answers = Answers(
            self.tallies,
            max_answers=settings.gateway_feedback_answers,
            settle_s=settings.gateway_feedback_settle_s,
            clock_s=time.monotonic,
        )
        self.captures = Captures(watched, max_bytes=settings.gateway_capture_bytes, hold_s=settings.gateway_capture_hold_s)
        self.mirrors = Mirrors(
            watched,
            self.tallies,
            surroundings.engines,
            surroundings.balancer,
            surroundings.queues,
            concurrency=settings.gateway_mirror_concurrency,
            max_waiting=settings.gateway_mirror_queue,
            patience_s=settings.gateway_mirror_patience_s,
            timeout_s=settings.gateway_mirror_timeout_s,
        )

    async def run(self) -> None:
        """Tells the api until cancelled, and then what it has not heard yet, as far as that goes in FLUSH_S."""
        # A session of its own: however many streams there are to services, its connection is free.
        async with _session() as session:
            teller = Teller(session, api_url=self._settings.api_url, token=self._settings.gateway_token)
            reporter = Reporter(
                teller,
                self.tallies,
                self._waiting.demands,
                interval_s=self._settings.gateway_report_interval_s,
                max_backlog_windows=self._settings.gateway_backlog_windows,
                used_keys=self.used_keys.take,
            )
            captured = CaptureTeller(teller, self.captures, interval_s=self._settings.gateway_report_interval_s)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for work in (reporter.run, captured.run, self.mirrors.run, self._settle):
                        tasks.create_task(work())
            finally:
                self.answers.settle(all_of_them=True)
                await asyncio.gather(reporter.flush(timeout_s=FLUSH_S), captured.flush(timeout_s=FLUSH_S))

    async def _settle(self) -> None:
        """Counts feedback that has stood long enough."""
        while True:
            await asyncio.sleep(self._settings.gateway_report_interval_s / 2)
            self.answers.settle()


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_S), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    )
