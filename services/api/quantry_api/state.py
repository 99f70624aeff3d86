"""What the endpoints of this service share beside the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from quantry_api.estimates.estimator import Estimator
from quantry_api.retention.settings import RetentionSettings
from quantry_api.settings import ApiSettings
from quantry_api.wake import Waker
from quantry_core.jobs import Job, JobStatus
from quantry_core.outbound import OutboundRules
from quantry_store.capture_cipher import CaptureCipher
from quantry_store.webhook_cipher import WebhookCipher

NOWHERE_PRIVATE = OutboundRules()


def _nothing() -> None:
    """What is nudged where no loop runs."""


@dataclass(frozen=True)
class ApiState:
    settings: ApiSettings
    waker: Waker
    estimator: Estimator
    nudge: Callable[[], None]
    """Makes this process look at once for waiting jobs that may go on; call it after what may have set some free. Never blocks."""
    capture_cipher: CaptureCipher | None = None
    """Encrypts captured prompts; None: none is kept."""
    webhook_cipher: WebhookCipher | None = None
    """Encrypts webhooks' secrets; None: there are no webhooks."""
    outbound_rules: OutboundRules = NOWHERE_PRIVATE
    """Where fetches that users ask for may go."""
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    """For how long things are kept."""
    nudge_retention: Callable[[], None] = _nothing
    """Has this process look at once for a run of retention that was asked for."""

    def announce(self, *jobs: Job) -> None:
        """Tells workers of jobs that are queued, one slot for each, and this process to look whether others can go on.

        Not waited for: the jobs are safe in the database, and a broker that is away must not hold up who submitted them.
        """
        queues = [job.queue for job in jobs if job.status is JobStatus.QUEUED and job.queue is not None]
        for queue in queues:
            self.waker.soon(queue)
        if len(queues) < len(jobs):
            self.nudge()


async def state_of(request: Request) -> ApiState:
    """Returns the state of the app that answers this request."""
    state: ApiState = request.app.state.api
    return state


State = Annotated[ApiState, Depends(state_of)]
