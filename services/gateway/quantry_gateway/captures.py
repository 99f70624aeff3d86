"""Opt-in capture: a share of prompts goes to the api, which encrypts them. Here they are in memory only, and never in a log."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

import structlog

from quantry_core.captures import CapturedPrompt, CaptureReport
from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.sampling import WatchedDeployments
from quantry_gateway.tallies import now
from quantry_gateway.telling import ApiAway, ReportRefused, Teller, pause_s

PATH = "/internal/v1/captures"
MAX_PROMPT_CHARS = 262_144
"""As many as a CapturedPrompt may hold. A longer prompt is not captured: a part of it would be another prompt."""
MAX_REPORT_PROMPTS = 200
MAX_REPORT_CHARS = 512 * 1024
"""A report ends with the prompt that goes past it, so that it stays below the size of body that the api takes."""

_MAX_BODY_BYTES = 4 * MAX_PROMPT_CHARS
_TIMEOUT_S = 10.0
_PROMPT_FIELDS = {"/v1/completions": "prompt", "/v1/chat/completions": "messages"}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Sampled:
    """A request whose prompt is to be kept, as it came; the prompt is taken out of it later, when nobody waits."""

    outcome: Outcome
    captured_at: datetime
    sampled_s: float


class Captures:
    """Holds at most ``max_bytes`` of sampled requests, each for at most ``hold_s``. What does not fit is dropped, and counted."""

    def __init__(
        self,
        watched: WatchedDeployments,
        *,
        max_bytes: int,
        hold_s: float,
        clock_s: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._watched = watched
        self._max_bytes = max_bytes
        self.hold_s = hold_s
        self._clock_s = clock_s
        self._chance = chance
        self._sampled: deque[_Sampled] = deque()
        self._size_bytes = 0
        self.num_dropped = 0

    def __len__(self) -> int:
        return len(self._sampled)

    def tell(self, outcome: Outcome) -> None:
        """Keeps a share of the answered requests of deployments that capture."""
        settings = self._watched.capture_of(outcome.deployment_id)
        if settings is None or outcome.kind is not OutcomeKind.ANSWERED or outcome.path not in _PROMPT_FIELDS:
            return
        if self._chance() * 100 >= settings.percent:
            return
        size_bytes = len(outcome.body)
        if size_bytes > _MAX_BODY_BYTES or self._size_bytes + size_bytes > self._max_bytes:
            self.num_dropped += 1
            return
        self._size_bytes += size_bytes
        self._sampled.append(_Sampled(outcome, captured_at=now(), sampled_s=self._clock_s()))

    def take(self) -> list[CapturedPrompt]:
        """Removes the oldest and returns their prompts, as many as fit into one report; none where nothing is held."""
        taken: list[CapturedPrompt] = []
        num_chars = 0
        while self._sampled and len(taken) < MAX_REPORT_PROMPTS and num_chars < MAX_REPORT_CHARS:
            sampled = self._sampled.popleft()
            self._size_bytes -= len(sampled.outcome.body)
            prompt = _captured(sampled) if self._clock_s() - sampled.sampled_s <= self.hold_s else None
            if prompt is None:
                self.num_dropped += 1
            else:
                taken.append(prompt)
                num_chars += len(prompt.body)
        return taken

    def expire(self) -> None:
        """Drops what has been held for too long."""
        while self._sampled and self._clock_s() - self._sampled[0].sampled_s > self.hold_s:
            self._size_bytes -= len(self._sampled.popleft().outcome.body)
            self.num_dropped += 1


class CaptureTeller:
    """Brings what was captured to the api, again until it was heard: an id told twice is kept once."""

    def __init__(self, teller: Teller, captures: Captures, *, interval_s: float) -> None:
        self._teller = teller
        self._captures = captures
        self._interval_s = interval_s
        self._telling: list[CapturedPrompt] = []
        self._num_told_dropped = 0

    async def run(self) -> None:
        """Tells until cancelled."""
        num_failures = 0
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                while await self._tell_next(timeout_s=_TIMEOUT_S):
                    num_failures = 0
            except ApiAway as error:
                if not num_failures:
                    _log.warning("captures.api_away", error=str(error))
                await asyncio.sleep(pause_s(num_failures))
                num_failures += 1
            except Exception:  # a defect must not end capture for ever
                # Without the traceback: what it is about could be a prompt.
                _log.error("captures.failed", num_prompts=len(self._telling))
                self._drop()
            self.expire()
            self._log_dropped()

    def expire(self) -> None:
        """Drops what has been held for too long, since it was sampled: in the report that is being told, and behind it."""
        self._captures.expire()
        oldest_at = now() - timedelta(seconds=self._captures.hold_s)
        kept = [prompt for prompt in self._telling if prompt.captured_at >= oldest_at]
        self._captures.num_dropped += len(self._telling) - len(kept)
        self._telling = kept

    async def flush(self, *, timeout_s: float) -> None:
        """Tells what is held, as far as that goes in the time. The rest is lost."""
        try:
            async with asyncio.timeout(timeout_s):
                while await self._tell_next(timeout_s=timeout_s):
                    pass
        except (ApiAway, TimeoutError):
            _log.warning("captures.lost", num_prompts=len(self._telling) + len(self._captures))

    async def _tell_next(self, *, timeout_s: float) -> bool:
        """Tells one report; returns False where nothing is held. Raises ApiAway: the same prompts come next."""
        if not self._telling:
            self._telling = self._captures.take()
        if not self._telling:
            return False
        try:
            await self._teller.post(PATH, CaptureReport(prompts=self._telling), timeout_s=timeout_s)
        except ReportRefused as error:
            _log.error("captures.refused", error=str(error), num_prompts=len(self._telling))
            self._drop()
        self._telling = []
        return True

    def _drop(self) -> None:
        self._captures.num_dropped += len(self._telling)
        self._telling = []

    def _log_dropped(self) -> None:
        num_new = self._captures.num_dropped - self._num_told_dropped
        if num_new:
            _log.warning("captures.dropped", num_prompts=num_new)
            self._num_told_dropped = self._captures.num_dropped


def _captured(sampled: _Sampled) -> CapturedPrompt | None:
    """Returns a request's prompt or messages and nothing else of it; None where there is none that can be kept."""
    outcome = sampled.outcome
    try:
        prompt = json.loads(outcome.body).get(_PROMPT_FIELDS[outcome.path])
        text = json.dumps(prompt, ensure_ascii=False, separators=(",", ":"))
        # Half of a surrogate pair is JSON and no text: it could not be written as UTF-8.
        text.encode()
    except (ValueError, RecursionError, AttributeError):
        return None
    if not prompt or len(text) > MAX_PROMPT_CHARS:
        return None
    return CapturedPrompt(
        id=f"cap_{secrets.token_hex(16)}",
        deployment_id=outcome.deployment_id,
        release_id=outcome.release_id,
        captured_at=sampled.captured_at,
        path=cast(Literal["/v1/completions", "/v1/chat/completions"], outcome.path),
        body=text,
    )
