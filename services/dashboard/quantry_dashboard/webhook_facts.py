"""What the pages of webhooks say of each, and of each message to it. Pure functions from what the API tells to texts."""

from __future__ import annotations

from datetime import datetime

from quantry_core.jobs import JobType
from quantry_core.webhooks import DeliveryState, Webhook, WebhookAttempt, WebhookDelivery
from quantry_dashboard import words
from quantry_dashboard.administration import WEBHOOKS, State, ahead_text
from quantry_dashboard.deployments import ROLLOUTS
from quantry_dashboard.facts import Fact

DELIVERY_CLASSES = {
    DeliveryState.PENDING: "status waiting",
    DeliveryState.DELIVERED: "status succeeded",
    DeliveryState.FAILED: "status failed",
    DeliveryState.DROPPED: "status",
}
ATTEMPT_HEADINGS = ("Attempt", "Sent", "Took", "Answer", "Why it failed", "Body of the answer")


def webhook_address(webhook_id: str) -> str:
    """Returns where a webhook's page is."""
    return f"{WEBHOOKS}/{webhook_id}"


def webhook_state(webhook: Webhook) -> State:
    """Returns whether a webhook is told anything, and whether that arrives."""
    if webhook.disabled_reason is not None:
        return State("disabled", "status failed")
    if not webhook.is_active:
        return State("paused", "status")
    return State("failing", "status failed") if webhook.failing_since is not None else State("active", "status succeeded")


def asked_for_text(webhook: Webhook) -> str:
    """Returns what a webhook is told, and of which jobs."""
    parts = [", ".join(webhook.events)]
    if webhook.types:
        parts.append(f"of {', '.join(webhook.types)} jobs")
    if webhook.labels:
        parts.append(f"with {webhook.labels}")
    return " ".join(parts)


def webhook_facts(webhook: Webhook, now: datetime) -> list[Fact]:
    """Returns what is known of a webhook."""
    told = webhook.last_delivered_at
    facts = [
        Fact("address", webhook.url),
        Fact("told", ", ".join(webhook.events)),
        Fact("only of types", ", ".join(webhook.types)),
        Fact("only with labels", webhook.labels or ""),
        Fact("format", webhook.format),
        Fact("made", words.moment_text(webhook.created_at)),
        Fact("last delivered", "" if told is None else f"{words.moment_text(told)}, {words.ago_text(told, now)}"),
        Fact("failing since", "" if webhook.failing_since is None else words.moment_text(webhook.failing_since)),
        Fact("disabled", webhook.disabled_reason or ""),
        Fact(
            "old secret",
            f"signs too, until {words.moment_text(webhook.old_secret_until)}"
            if webhook.old_secret_until is not None and webhook.old_secret_until > now
            else "",
        ),
    ]
    return [fact for fact in facts if fact.text]


def subject_address(delivery: WebhookDelivery) -> str | None:
    """Returns where the dashboard shows what a message is about; None where it does not."""
    noun = delivery.event.partition(".")[0]
    path = {"job": "/jobs/", "schedule": "/schedules/", "rollout": f"{ROLLOUTS}/"}.get(noun)
    return None if path is None else path + delivery.subject_id


def outcome_text(delivery: WebhookDelivery, now: datetime) -> str:
    """Returns what came of a message so far."""
    said = [] if delivery.last_status is None else [f"answered {delivery.last_status}"]
    if delivery.last_error is not None and delivery.state is not DeliveryState.DELIVERED:
        said = [delivery.last_error]
    if delivery.next_attempt_at is not None and delivery.num_attempts:
        said.append(f"tried again {ahead_text(delivery.next_attempt_at, now)}")
    return "; ".join(said)


def attempt_texts(attempt: WebhookAttempt) -> tuple[str, ...]:
    """Returns the cells of an attempt's row, under ATTEMPT_HEADINGS."""
    return (
        str(attempt.number),
        words.moment_text(attempt.sent_at),
        f"{attempt.duration_ms:,} ms",
        "none" if attempt.status is None else str(attempt.status),
        attempt.error or "",
        attempt.answer,
    )


TYPES = tuple(JobType)
"""Of jobs, as they may be asked for."""
