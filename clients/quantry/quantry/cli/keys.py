"""``quantry keys``: for admins."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, emit_json, print_page, say, stderr, time_text
from quantry.cli.specs import build, words
from quantry_core.keys import ApiKey, KeyLimits, KeyRequest, Role
from quantry_core.pages import DEFAULT_LIMIT

app = typer.Typer(help="List, make and revoke API keys.", no_args_is_help=True)


def limits_text(limits: KeyLimits) -> str:
    """Returns what a key may ask of the data plane: ``60 requests/min, 10000 tokens/min``; empty where it may ask for anything."""
    named = (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute))
    return ", ".join(f"{limit} {noun}/min" for noun, limit in named if limit is not None)


_COLUMNS: tuple[Column[ApiKey], ...] = (
    ("key", lambda key: key.id),
    ("name", lambda key: key.name),
    ("role", lambda key: key.role),
    ("begins with", lambda key: key.prefix),
    ("limits", lambda key: limits_text(key.limits)),
    ("created", lambda key: time_text(key.created_at)),
    ("revoked", lambda key: time_text(key.revoked_at)),
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
    as_json: JsonOption = False,
) -> None:
    """Make a key and print its secret, once."""
    limits = build(KeyLimits, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
    request = build(KeyRequest, name=name, role=role, limits=limits)
    with connect(context) as client:
        made = client.keys.create(request.name, request.role, request.limits)
    if as_json:
        emit_json(made)
    else:
        say(made.secret)
        limited = f", {limits_text(made.key.limits)}" if limits_text(made.key.limits) else ""
        stderr().print(f"{made.key.id}, role {made.key.role}{limited}. Keep the secret: it is not shown again.")


@app.command("revoke")
def revoke_key(
    context: typer.Context, key_id: Annotated[str, typer.Argument(metavar="KEY", help="key_...")], as_json: JsonOption = False
) -> None:
    """Make a key worthless at once."""
    with connect(context) as client:
        client.keys.revoke(key_id)
    if as_json:
        emit_json({"revoked": key_id})
    else:
        say(f"{key_id} is revoked")
