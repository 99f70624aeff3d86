"""``quantry keys``: for admins."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from quantry.cli.completion import key_ids
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, emit_json, print_fields, print_page, say, stderr, time_text
from quantry.cli.specs import build, words
from quantry.cli.values import duration_or_none_s, moment
from quantry_core.keys import ApiKey, KeyLimits, KeyRequest, KeyRotation, Role
from quantry_core.pages import DEFAULT_LIMIT

app = typer.Typer(help="List, make, rotate and revoke API keys.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", autocompletion=key_ids, help="key_...")]
ExpiresOption = Annotated[
    datetime | None, typer.Option("--expires", parser=moment, metavar="TIME", help="From then on it is refused: 2027-01-31T18:00.")
]


def limits_text(limits: KeyLimits) -> str:
    """Returns what a key may ask of the data plane: ``60 requests/min, 10000 tokens/min``; empty where it may ask for anything."""
    named = (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute))
    return ", ".join(f"{limit} {noun}/min" for noun, limit in named if limit is not None)


def holds_until_text(key: ApiKey) -> str:
    """Returns until when a key holds: ``revoked 2026-11-23 12:00``; empty where nothing ends it."""
    if key.revoked_at is not None:
        return f"revoked {time_text(key.revoked_at)}"
    return "" if key.expires_at is None else time_text(key.expires_at)


_COLUMNS: tuple[Column[ApiKey], ...] = (
    ("key", lambda key: key.id),
    ("name", lambda key: key.name),
    ("role", lambda key: key.role),
    ("begins with", lambda key: key.prefix),
    ("limits", lambda key: limits_text(key.limits)),
    ("created", lambda key: time_text(key.created_at)),
    ("last used", lambda key: time_text(key.last_used_at)),
    ("holds until", holds_until_text),
)


@app.command("list")
def list_keys(context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False) -> None:
    """List keys; secrets are never stored, so none is shown."""
    with connect(context) as client:
        page = client.keys.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no keys.")


@app.command("create")
def create_key(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option(help="For people: whose key it is, or what for.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.VIEWER,
    requests_per_minute: Annotated[int | None, typer.Option(help="Of the data plane; no limit where not given.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help=words(KeyLimits, "tokens_per_minute"))] = None,
    expires: ExpiresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print its secret, once."""
    limits = build(KeyLimits, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
    request = build(KeyRequest, name=name, role=role, limits=limits, expires_at=expires)
    with connect(context) as client:
        made = client.keys.create(request.name, request.role, request.limits, request.expires_at)
    if as_json:
        emit_json(made)
    else:
        say(made.secret)
        limited = f", {limits_text(made.key.limits)}" if limits_text(made.key.limits) else ""
        stderr().print(f"{made.key.id}, role {made.key.role}{limited}. Keep the secret: it is not shown again.")


@app.command("show")
def show_key(context: typer.Context, key_id: KeyArgument, as_json: JsonOption = False) -> None:
    """Show one key: when it was made and used, and until when it holds."""
    with connect(context) as client:
        key = client.keys.get(key_id)
    if as_json:
        emit_json(key)
        return
    print_fields(
        [
            ("key", key.id),
            ("name", key.name),
            ("role", key.role),
            ("begins with", key.prefix),
            ("limits", limits_text(key.limits) or None),
            ("created", time_text(key.created_at)),
            ("rotated", time_text(key.rotated_at) or None),
            ("old secret works until", time_text(key.old_secret_until) or None),
            ("last used", time_text(key.last_used_at) or None),
            ("holds until", holds_until_text(key) or None),
        ]
    )


@app.command("rotate")
def rotate_key(
    context: typer.Context,
    *,
    key_id: KeyArgument,
    overlap: Annotated[
        int | None,
        typer.Option(parser=duration_or_none_s, metavar="DURATION", help="How long the old secret still works, at most 7d: 10m, 1h."),
    ] = None,
    expires: ExpiresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret and print it, once. The old one works no longer, unless --overlap says so."""
    rotation = build(KeyRotation, overlap_s=overlap or 0, expires_at=expires)
    with connect(context) as client:
        made = client.keys.rotate(key_id, overlap_s=rotation.overlap_s, expires_at=rotation.expires_at)
    if as_json:
        emit_json(made)
    else:
        say(made.secret)
        old = time_text(made.key.old_secret_until)
        sentence = f"The old secret works until {old}." if old else "The old secret works no longer."
        stderr().print(f"{made.key.id}, role {made.key.role}. {sentence} Keep the new one: it is not shown again.")


@app.command("revoke")
def revoke_key(context: typer.Context, key_id: KeyArgument, as_json: JsonOption = False) -> None:
    """Make a key worthless at once."""
    with connect(context) as client:
        client.keys.revoke(key_id)
    if as_json:
        emit_json({"revoked": key_id})
    else:
        say(f"{key_id} is revoked")
