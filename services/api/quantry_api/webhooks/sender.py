"""The background loop that sends webhooks. It runs in every api replica; each message is held by one attempt at a time.

Claim, send, settle: two short transactions, and none while a receiver is waited for. A sender that is killed leaves its
attempts to their leases, so that a message is sent at least once, and in no particular order.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from quantry_api.sweeps import backoff_s
from quantry_api.webhooks.posting import Answer, NotSent, Poster
from quantry_core.errors import Unavailable
from quantry_core.webhook_retries import asked_pause_s, is_taken, pause_s
from quantry_core.webhook_signatures import signed_fields
from quantry_core.webhook_words import NO_LINKS, Links, body_of
from quantry_core.webhooks import WebhookAttempt, WebhookMessage
from quantry_store.database import Database
from quantry_store.transactions import ClaimedDelivery, claim_deliveries, give_up_deliveries, settle_delivery
from quantry_store.webhook_cipher import KEYS_VARIABLE, WebhookCipher
from quantry_telemetry.loops import Rounds, uncounted

CLEAN_UP_INTERVAL_S = 600.0
MAX_ROWS_PER_CLEAN_UP = 1000
MAX_CLEAN_UP_BATCHES = 100
LEASE_SLACK_S = 15.0
"""Of a lease, beside twice the time that a receiver has: for the database."""
RESERVE_PART = 4
"""One in so many of the messages under way is never of the project that has all the others."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SenderSettings:
    """How the sender goes about it."""

    interval_s: float = 1.0
    timeout_s: float = 10.0
    concurrency: int = 16
    """Messages under way at once, of this process."""
    limit_each: int = 4
    """Of one webhook."""
    disable_after_s: float = 5 * 24 * 3600.0
    links: Links = NO_LINKS


def _nobody(_is_taken: bool) -> None:
    """Who hears of an attempt where nobody counts."""


class WebhookSender:
    """Looks every ``interval_s`` seconds for messages that are due. ``draw`` gives random numbers from 0 up to 1, ``clock_s`` Unix time."""

    def __init__(
        self,
        database: Database,
        poster: Poster,
        cipher: WebhookCipher,
        settings: SenderSettings,
        *,
        rounds: Rounds = uncounted,
        on_attempt: Callable[[bool], None] = _nobody,
        draw: Callable[[], float] = random.random,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._poster = poster
        self._cipher = cipher
        self._settings = settings
        self._rounds = rounds
        self._on_attempt = on_attempt
        self._draw = draw
        self._clock_s = clock_s
        self._under_way: dict[asyncio.Task[None], ClaimedDelivery] = {}
        self._clean_up_at_s = 0.0

    async def run(self) -> None:
        """Sends until cancelled. A failure is logged and the next look comes later."""
        num_failures = 0
        try:
            while True:
                num_started = 0
                try:
                    with self._rounds("webhooks"):
                        num_started = await self.look()
                        await self._clean_up_now_and_then()
                    num_failures = 0
                except Unavailable as error:
                    num_failures += 1
                    _log.warning("webhooks.waiting_for_database", num_failures=num_failures, detail=error.detail)
                except Exception:  # one look's defect must not end the loop that every message waits for
                    num_failures += 1
                    _log.exception("webhooks.failed", num_failures=num_failures)
                await self._rest(num_started, backoff_s(self._settings.interval_s, num_failures))
        finally:
            await self.stop()

    async def look(self) -> int:
        """Returns how many messages it began to send: as many as are due and there is room for."""
        settings = self._settings
        room = settings.concurrency - len(self._under_way)
        if room <= 0:
            return 0
        # What no project may take alone: one whose receivers are all slow would else hold up everybody's messages.
        reserve = settings.concurrency // RESERVE_PART
        lease_s = 2 * settings.timeout_s + LEASE_SLACK_S
        async with self._database.begin() as uow:
            claimed = await claim_deliveries(
                uow,
                lease_s=lease_s,
                limit=room,
                limit_each=settings.limit_each,
                limit_project=max(1, room - reserve),
                busy=self._busy(settings.concurrency - reserve),
            )
        for one in claimed:
            task = asyncio.create_task(self._deliver(one), name=f"webhook {one.row.id}")
            self._under_way[task] = one
            task.add_done_callback(self._under_way.pop)
        return len(claimed)

    def _busy(self, limit_project: int) -> list[str]:
        """Returns the webhooks and the projects that have as much under way as they may."""
        rows = [one.row for one in self._under_way.values()]
        webhooks, projects = Counter(row.webhook_id for row in rows), Counter(row.project_id for row in rows)
        busy = [one for one, num in webhooks.items() if num >= self._settings.limit_each]
        return busy + [one for one, num in projects.items() if num >= limit_project]

    async def finish(self) -> None:
        """Waits for all that is under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way))

    async def stop(self) -> None:
        """Cuts off what is under way; it is sent again once its lease is over."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def clean_up(self) -> None:
        """Gives up messages whose time is over; how long they are kept then is retention's business."""
        for _ in range(MAX_CLEAN_UP_BATCHES):
            async with self._database.begin() as uow:
                num_rows = await give_up_deliveries(uow, limit=MAX_ROWS_PER_CLEAN_UP)
            if num_rows == 0:
                return

    async def _rest(self, num_started: int, pause_s: float) -> None:
        """Returns when it is worth to look again: at once where more may be due and there is room, when room comes, or after the pause."""
        if num_started and len(self._under_way) < self._settings.concurrency:
            return
        if self._under_way and len(self._under_way) >= self._settings.concurrency:
            await asyncio.wait(list(self._under_way), timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            return
        await asyncio.sleep(pause_s)

    async def _deliver(self, claimed: ClaimedDelivery) -> None:
        """Sends one message and writes down what came of it; never raises."""
        try:
            began_s = time.monotonic()
            sent_at = datetime.fromtimestamp(self._clock_s(), UTC)
            try:
                answer: Answer | None = await self._send(claimed, int(sent_at.timestamp()))
                error = None
            except NotSent as failed:
                answer, error = None, str(failed)
            if answer is not None and not is_taken(answer.status):
                error = f"it answered {answer.status}" + (": redirects are not followed" if 300 <= answer.status < 400 else "")
            attempt = WebhookAttempt(
                number=claimed.number,
                sent_at=sent_at,
                duration_ms=round((time.monotonic() - began_s) * 1000),
                status=None if answer is None else answer.status,
                error=error,
                answer="" if answer is None else answer.text,
            )
            await self._settle(claimed, attempt, answer)
        except Unavailable as error_:
            # Its lease ends, and it is sent once more.
            _log.warning("webhook.not_settled", delivery_id=claimed.row.id, detail=error_.detail)
        except Exception:  # one message's defect must not end the others
            _log.exception("webhook.skipped", delivery_id=claimed.row.id)

    async def _send(self, claimed: ClaimedDelivery, now_s: int) -> Answer:
        """Returns what the receiver answered; raises NotSent."""
        webhook = claimed.webhook
        url = self._cipher.decrypt(webhook.id, webhook.url)
        secrets = [self._cipher.decrypt(webhook.id, webhook.secret)]
        if webhook.old_secret is not None and webhook.old_secret_until is not None and webhook.old_secret_until.timestamp() > now_s:
            secrets.append(self._cipher.decrypt(webhook.id, webhook.old_secret))
        known = [secret for secret in secrets if secret is not None]
        if url is None or len(known) < len(secrets):
            raise NotSent(f"its secret cannot be decrypted: the key that it was stored with is not in {KEYS_VARIABLE}")
        body = body_of(WebhookMessage.model_validate(claimed.row.message), webhook.format, self._settings.links)
        return await self._poster.post(url, body, signed_fields(known, claimed.row.id, now_s, body))

    async def _settle(self, claimed: ClaimedDelivery, attempt: WebhookAttempt, answer: Answer | None) -> None:
        pause = pause_s(claimed.num_since_asked, self._draw())
        if answer is not None:
            pause = max(pause, asked_pause_s(answer.status, answer.retry_after))
        async with self._database.begin() as uow:
            disabled = await settle_delivery(uow, claimed, attempt, pause_s=pause, disable_after_s=self._settings.disable_after_s)
        self._on_attempt(attempt.error is None)
        facts = {"delivery_id": claimed.row.id, "webhook_id": claimed.row.webhook_id, "event_type": claimed.row.event}
        if attempt.error is None:
            _log.info("webhook.delivered", **facts, attempt=attempt.number, duration_ms=attempt.duration_ms)
        else:
            _log.warning("webhook.not_delivered", **facts, attempt=attempt.number, status=attempt.status, detail=attempt.error)
        if disabled is not None:
            _log.warning("webhook.disabled", webhook_id=disabled.id, project_id=disabled.project_id, detail=disabled.disabled_reason)

    async def _clean_up_now_and_then(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._clean_up_at_s:
            self._clean_up_at_s = now_s + CLEAN_UP_INTERVAL_S
            await self.clean_up()
