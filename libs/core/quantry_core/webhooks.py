"""Webhooks: what a project has told to its own services, which of it, and what became of each message."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.errors import InvalidInput
from quantry_core.jobs import JobType, Operator, parse_selector
from quantry_core.names import Name

MAX_WEBHOOKS: Final = 50
"""Of a project, those that were deleted aside."""

MAX_ANSWER_CHARS: Final = 512
"""Of what a receiver answered, kept with each attempt."""

DEFAULT_OVERLAP_S: Final = 24 * 3600
MAX_OVERLAP_S: Final = 30 * 24 * 3600


class WebhookEvent(StrEnum):
    """What can be told."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_GATE_FAILED = "job.gate_failed"
    """A job that failed because what it made did not pass its gate. Who asks for job.failed alone is told it as that."""
    JOB_CANCELLED = "job.cancelled"
    JOB_WORKER_LOST = "job.worker_lost"
    """An attempt was lost with its worker, and the job is tried again."""
    ROLLOUT_VERDICT = "rollout.verdict"
    """What was measured of a candidate is judged otherwise than before."""
    ROLLOUT_PROMOTED = "rollout.promoted"
    ROLLOUT_ROLLED_BACK = "rollout.rolled_back"
    ROLLOUT_ABORTED = "rollout.aborted"
    SCHEDULE_FAILED = "schedule.failed"
    """A due time of a schedule came to nothing: its template could not be submitted."""
    PING = "ping"
    """A test by hand. Nobody need ask for it."""


SUBSCRIBABLE: Final = tuple(event for event in WebhookEvent if event is not WebhookEvent.PING)

ALSO: Final[dict[WebhookEvent, tuple[WebhookEvent, ...]]] = {WebhookEvent.JOB_GATE_FAILED: (WebhookEvent.JOB_FAILED,)}
"""Under which other name an event is told to who did not ask for it by its own."""


class WebhookFormat(StrEnum):
    JSON = "json"
    """``{"type", "timestamp", "data"}``, as Standard Webhooks has it."""
    SLACK = "slack"
    """``{"text"}``: a sentence, for incoming webhooks of Slack, Mattermost and whatever takes the same."""


class DeliveryState(StrEnum):
    """Where a message to one webhook is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """No attempt was answered well until its time was over."""
    DROPPED = "dropped"
    """Its webhook was deleted."""


def _check_events(events: list[WebhookEvent]) -> list[WebhookEvent]:
    if WebhookEvent.PING in events:
        raise ValueError("ping is not asked for: POST .../test sends one")
    return list(dict.fromkeys(events))


def _check_selector(selector: str | None) -> str | None:
    if selector is not None:
        try:
            parse_selector(selector)
        except InvalidInput as error:
            raise ValueError(error.detail) from error
    return selector


Events = Annotated[list[WebhookEvent], Field(min_length=1, max_length=len(SUBSCRIBABLE)), AfterValidator(_check_events)]
Selector = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_check_selector)]
WebhookUrl = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class WebhookRequest(BaseModel):
    """Body of ``POST /api/v1/webhooks``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="What it is for; for people. One of a name in a project.")
    url: WebhookUrl = Field(description="Where messages are posted: https, to a public host, or one that an administrator has named.")
    events: Events = Field(description="What is told.")
    labels: Selector | None = Field(default=None, description="Only of jobs with these labels, such as team=search,stage!=test.")
    types: list[JobType] = Field(default=[], max_length=len(JobType), description="Only of jobs of these types; empty: of all.")
    format: WebhookFormat = Field(default=WebhookFormat.JSON, description="json, or slack for a sentence that chat servers show.")
    is_active: bool = Field(default=True, description="Whether messages are made and sent.")


class WebhookChange(BaseModel):
    """Body of ``PATCH /api/v1/webhooks/<id>``: what is given is changed. Null takes a filter by labels away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name | None = None
    url: WebhookUrl | None = None
    events: Events | None = None
    labels: Selector | None = None
    types: list[JobType] | None = Field(default=None, max_length=len(JobType))
    format: WebhookFormat | None = None
    is_active: bool | None = Field(default=None, description="True lets one that was disabled go on.")


class SecretRotation(BaseModel):
    """Body of ``POST /api/v1/webhooks/<id>/rotate-secret``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap_s: int = Field(
        default=DEFAULT_OVERLAP_S, ge=0, le=MAX_OVERLAP_S, description="Seconds in which messages are signed with the old secret too."
    )


class Webhook(BaseModel):
    """A webhook as it is listed. Its secret is shown once, when it is made or rotated."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["webhook"] = "webhook"
    project_id: str
    name: str
    url: str = Field(description="Without what may be a secret in it: its query, and for slack its path.")
    events: list[WebhookEvent]
    labels: str | None = None
    types: list[JobType] = []
    format: WebhookFormat
    is_active: bool
    disabled_reason: str | None = Field(default=None, description="Why the platform itself made it inactive; None where it did not.")
    failing_since: datetime | None = Field(default=None, description="Since when no delivery succeeded; None where the last one did.")
    last_delivered_at: datetime | None = None
    old_secret_until: datetime | None = Field(default=None, description="Until when messages carry a signature by the secret before, too.")
    created_at: datetime


class NewWebhook(BaseModel):
    """A webhook with its secret: the only time that is shown."""

    model_config = ConfigDict(frozen=True)

    webhook: Webhook
    secret: str = Field(description="whsec_...: what the receiver checks signatures with.")


class WebhookAttempt(BaseModel):
    """One sending of a message."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(description="1 is the first.")
    sent_at: datetime
    duration_ms: int
    status: int | None = Field(description="What the receiver answered with; None where no answer came.")
    error: str | None = Field(description="Why it counts as failed; None where it does not.")
    answer: str = Field(description=f"The first {MAX_ANSWER_CHARS} characters of the answer's body.")


class WebhookDelivery(BaseModel):
    """A message to one webhook: its id is the ``webhook-id`` of every sending."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["webhook.delivery"] = "webhook.delivery"
    webhook_id: str
    event: WebhookEvent
    subject_id: str = Field(description="The job, rollout or schedule that it tells of; the webhook for a ping.")
    state: DeliveryState
    num_attempts: int
    last_status: int | None = None
    last_error: str | None = None
    next_attempt_at: datetime | None = Field(default=None, description="None where none follows.")
    created_at: datetime
    finished_at: datetime | None = None


class WebhookDeliveryDetail(WebhookDelivery):
    """A message with what it says and the log of its attempts."""

    message: dict[str, Any] = Field(description="The body, as format json has it.")
    attempts: list[WebhookAttempt] = Field(description="The last ones, newest first.")


class WebhookMessage(BaseModel):
    """What is posted: the body of format json, and what a receiver gets from ``quantry.webhooks.verify``."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="job.succeeded and so on. Receivers ignore those that they do not know.")
    timestamp: datetime = Field(description="When it happened.")
    data: dict[str, Any] = Field(description="Ids, states, reasons and links; whoever needs more asks the API.")


def shown_url(url: str, format: WebhookFormat) -> str:
    """Returns a receiver's address as anybody who may list webhooks may see it: without its query, and for slack, whose addresses are
    secrets, without its path."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if format is WebhookFormat.SLACK:
        return origin if parts.path in {"", "/"} and not parts.query else f"{origin}/..."
    return origin + parts.path + ("?..." if parts.query else "")


def told_as(event: WebhookEvent, asked_for: list[WebhookEvent]) -> WebhookEvent | None:
    """Returns the name under which an event is told to a webhook that asked for some; None where it is not."""
    return next((one for one in (event, *ALSO.get(event, ())) if one in asked_for), None)


def labels_match(selector: str | None, labels: dict[str, str]) -> bool:
    """Tells whether labels meet every condition of a selector. As in Kubernetes, key!=value holds too where there is no such key."""
    for requirement in parse_selector(selector) if selector else ():
        value = labels.get(requirement.key)
        match requirement.operator:
            case Operator.EQUAL:
                holds = value == requirement.value
            case Operator.NOT_EQUAL:
                holds = value != requirement.value
            case Operator.PRESENT:
                holds = value is not None
            case Operator.ABSENT:
                holds = value is None
        if not holds:
            return False
    return True
