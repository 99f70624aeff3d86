"""``quantry webhooks``: have a project's services told what happens."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from quantry.cli.completion import webhook_ids
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, duration_text, emit_json, print_fields, print_page, print_table, say, stderr, time_text
from quantry.cli.specs import build, refusal_words, words
from quantry.cli.values import duration_or_none_s, duration_s
from quantry_core.jobs import JobType
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.webhooks import (
    DEFAULT_OVERLAP_S,
    SUBSCRIBABLE,
    DeliveryState,
    NewWebhook,
    SecretRotation,
    Webhook,
    WebhookAttempt,
    WebhookChange,
    WebhookDelivery,
    WebhookDeliveryDetail,
    WebhookEvent,
    WebhookFormat,
    WebhookRequest,
)

app = typer.Typer(help="Make webhooks, look at what was sent, send it again.", no_args_is_help=True)

WebhookArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", autocompletion=webhook_ids, help="whk_...")]
DeliveryArgument = Annotated[str, typer.Argument(metavar="DELIVERY", help="dlv_...")]
EventOption = Annotated[
    list[WebhookEvent] | None,
    typer.Option("--event", help="What is told; again for more. Not given: all there is.", show_default=False),
]
TypeOption = Annotated[list[JobType] | None, typer.Option("--type", help=words(WebhookRequest, "types") + " Again for more.")]
LabelsOption = Annotated[str | None, typer.Option("--label", metavar="SELECTOR", help=words(WebhookRequest, "labels"))]

TEST_POLL_S = 0.5
TEST_WAIT_S = 15.0
EXIT_FAILED = 1


def state_text(webhook: Webhook) -> str:
    """Returns whether a webhook is sent to: active, failing since when, paused, or disabled."""
    if webhook.disabled_reason is not None:
        return "disabled"
    if not webhook.is_active:
        return "paused"
    return "active" if webhook.failing_since is None else f"failing since {time_text(webhook.failing_since)}"


_COLUMNS: tuple[Column[Webhook], ...] = (
    ("webhook", lambda webhook: webhook.id),
    ("name", lambda webhook: webhook.name),
    ("url", lambda webhook: webhook.url),
    ("events", lambda webhook: "all" if len(webhook.events) == len(SUBSCRIBABLE) else ", ".join(webhook.events)),
    ("state", state_text),
    ("last delivered", lambda webhook: time_text(webhook.last_delivered_at)),
)
_DELIVERIES: tuple[Column[WebhookDelivery], ...] = (
    ("delivery", lambda delivery: delivery.id),
    ("event", lambda delivery: delivery.event),
    ("about", lambda delivery: delivery.subject_id),
    ("state", lambda delivery: delivery.state),
    ("attempts", lambda delivery: str(delivery.num_attempts)),
    ("answer", lambda delivery: delivery.last_error or ("" if delivery.last_status is None else str(delivery.last_status))),
    ("next", lambda delivery: time_text(delivery.next_attempt_at)),
)
_ATTEMPTS: tuple[Column[WebhookAttempt], ...] = (
    ("attempt", lambda attempt: str(attempt.number)),
    ("sent", lambda attempt: time_text(attempt.sent_at)),
    ("took", lambda attempt: duration_text(attempt.duration_ms / 1000)),
    ("status", lambda attempt: "" if attempt.status is None else str(attempt.status)),
    ("error", lambda attempt: attempt.error or ""),
    ("answer", lambda attempt: attempt.answer),
)


@app.command("list")
def list_webhooks(
    context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False
) -> None:
    """List webhooks, and whether their deliveries fail."""
    with connect(context) as client:
        page = client.webhooks.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no webhooks.")


@app.command("create")
def create_webhook(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option(help=words(WebhookRequest, "name"))],
    url: Annotated[str, typer.Option(help=words(WebhookRequest, "url"))],
    events: EventOption = None,
    labels: LabelsOption = None,
    types: TypeOption = None,
    format: Annotated[WebhookFormat, typer.Option(help=words(WebhookRequest, "format"))] = WebhookFormat.JSON,
    as_json: JsonOption = False,
) -> None:
    """Make a webhook and print its secret, once."""
    request = build(
        WebhookRequest, name=name, url=url, events=events or list(SUBSCRIBABLE), labels=labels, types=types or [], format=format
    )
    with connect(context) as client:
        made = client.webhooks.create(**request.model_dump())
    _print_secret(made, as_json=as_json)


@app.command("show")
def show_webhook(context: typer.Context, webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Show a webhook."""
    with connect(context) as client:
        webhook = client.webhooks.get(webhook_id)
    _print_webhook(webhook, as_json=as_json)


@app.command("change")
def change_webhook(
    context: typer.Context,
    webhook_id: WebhookArgument,
    *,
    name: Annotated[str | None, typer.Option(help=words(WebhookRequest, "name"))] = None,
    url: Annotated[str | None, typer.Option(help=words(WebhookRequest, "url"))] = None,
    events: EventOption = None,
    labels: LabelsOption = None,
    types: TypeOption = None,
    any_job: Annotated[bool, typer.Option("--any-job", help="Take the filters by labels and types away.")] = False,
    format: Annotated[WebhookFormat | None, typer.Option(help=words(WebhookRequest, "format"))] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given."""
    given: dict[str, Any] = {"name": name, "url": url, "events": events, "labels": labels, "types": types, "format": format}
    changes = {key: value for key, value in given.items() if value is not None and value != []}
    if any_job:
        changes = {"labels": None, "types": []} | changes
    if not changes:
        raise typer.BadParameter("nothing is given to change")
    try:
        WebhookChange(**changes)
    except ValidationError as error:
        raise typer.BadParameter(refusal_words(error)) from None
    with connect(context) as client:
        webhook = client.webhooks.change(webhook_id, **changes)
    _print_webhook(webhook, as_json=as_json)


@app.command("pause")
def pause_webhook(context: typer.Context, webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Send nothing to a webhook until it is resumed."""
    with connect(context) as client:
        webhook = client.webhooks.pause(webhook_id)
    _print_webhook(webhook, as_json=as_json)


@app.command("resume")
def resume_webhook(context: typer.Context, webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Send to a webhook that was paused or disabled again, what waited for it included."""
    with connect(context) as client:
        webhook = client.webhooks.resume(webhook_id)
    _print_webhook(webhook, as_json=as_json)


@app.command("delete")
def delete_webhook(context: typer.Context, webhook_id: WebhookArgument, as_json: JsonOption = False) -> None:
    """Delete a webhook; what was not delivered is not sent any more."""
    with connect(context) as client:
        client.webhooks.delete(webhook_id)
    if as_json:
        emit_json({"deleted": webhook_id})
    else:
        say(f"{webhook_id} is deleted")


@app.command("rotate")
def rotate_secret(
    context: typer.Context,
    webhook_id: WebhookArgument,
    *,
    overlap_s: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            parser=duration_or_none_s,
            metavar="DURATION",
            help=words(SecretRotation, "overlap_s"),
            show_default=duration_text(DEFAULT_OVERLAP_S),
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give a webhook a new secret and print it, once."""
    rotation = build(SecretRotation, overlap_s=DEFAULT_OVERLAP_S if overlap_s is None else overlap_s)
    with connect(context) as client:
        made = client.webhooks.rotate_secret(webhook_id, overlap_s=rotation.overlap_s)
    _print_secret(made, as_json=as_json)


@app.command("test")
def send_test(
    context: typer.Context,
    webhook_id: WebhookArgument,
    *,
    wait_s: Annotated[
        int | None,
        typer.Option("--wait", parser=duration_s, metavar="DURATION", help="How long to wait for the answer.", show_default="15s"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a test message and show what the receiver answered. Exits with 1 where it was not taken."""
    until_s = time.monotonic() + (TEST_WAIT_S if wait_s is None else wait_s)
    with connect(context) as client:
        delivery = client.webhooks.test(webhook_id)
        while delivery.num_attempts == 0 or not delivery.attempts:
            if time.monotonic() >= until_s:
                break
            time.sleep(TEST_POLL_S)
            delivery = client.webhooks.delivery(webhook_id, delivery.id)
    _print_delivery(delivery, as_json=as_json)
    if delivery.state is not DeliveryState.DELIVERED:
        raise typer.Exit(EXIT_FAILED)


@app.command("deliveries")
def list_deliveries(
    context: typer.Context,
    webhook_id: WebhookArgument,
    *,
    state: Annotated[DeliveryState | None, typer.Option(help="Only those in this state.")] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the messages to a webhook, newest first."""
    with connect(context) as client:
        page = client.webhooks.deliveries(webhook_id, state=state, after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _DELIVERIES, empty="Nothing was sent.")


@app.command("delivery")
def show_delivery(context: typer.Context, webhook_id: WebhookArgument, delivery_id: DeliveryArgument, as_json: JsonOption = False) -> None:
    """Show a message and each attempt to send it."""
    with connect(context) as client:
        delivery = client.webhooks.delivery(webhook_id, delivery_id)
    _print_delivery(delivery, as_json=as_json)


@app.command("redeliver")
def redeliver(context: typer.Context, webhook_id: WebhookArgument, delivery_id: DeliveryArgument, as_json: JsonOption = False) -> None:
    """Send a message again that was delivered or given up."""
    with connect(context) as client:
        delivery = client.webhooks.redeliver(webhook_id, delivery_id)
    if as_json:
        emit_json(delivery)
    else:
        say(f"{delivery.id} is sent again")


def _print_secret(made: NewWebhook, *, as_json: bool) -> None:
    if as_json:
        emit_json(made)
        return
    say(made.secret)
    stderr().print(f"{made.webhook.id}, {made.webhook.name}. Keep the secret: it is not shown again.")


def _print_webhook(webhook: Webhook, *, as_json: bool) -> None:
    if as_json:
        emit_json(webhook)
        return
    print_fields(
        [
            ("webhook", webhook.id),
            ("name", webhook.name),
            ("url", webhook.url),
            ("events", ", ".join(webhook.events)),
            ("labels", webhook.labels),
            ("types", ", ".join(webhook.types) or None),
            ("format", webhook.format),
            ("state", state_text(webhook)),
            ("why", webhook.disabled_reason),
            ("last delivered", time_text(webhook.last_delivered_at) or None),
            ("old secret until", time_text(webhook.old_secret_until) or None),
            ("created", time_text(webhook.created_at)),
        ]
    )


def _print_delivery(delivery: WebhookDeliveryDetail, *, as_json: bool) -> None:
    if as_json:
        emit_json(delivery)
        return
    print_fields(
        [
            ("delivery", delivery.id),
            ("event", delivery.event),
            ("about", delivery.subject_id),
            ("state", delivery.state),
            ("next", time_text(delivery.next_attempt_at) or None),
            ("message", json.dumps(delivery.message, ensure_ascii=False)),
        ]
    )
    print_table(delivery.attempts, _ATTEMPTS, empty="It has not been sent yet.")
