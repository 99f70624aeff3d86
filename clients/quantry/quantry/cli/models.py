"""``quantry models``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.imports import upload_model
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_page, print_table, say, time_text
from quantry.cli.values import moment
from quantry.cli.versions import VERSION_COLUMNS
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.versions import Model

app = typer.Typer(help="Look at models.", no_args_is_help=True)

_COLUMNS: tuple[Column[Model], ...] = (
    ("model", lambda model: model.name),
    ("versions", lambda model: str(model.num_versions)),
    ("latest", lambda model: model.latest_version_id or ""),
    ("created", lambda model: time_text(model.created_at)),
)


@app.command("list")
def list_models(context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False) -> None:
    """List models, newest first."""
    with connect(context) as client:
        page = client.models.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no models; import one with 'quantry import'.")


@app.command("show")
def show_model(context: typer.Context, name: Annotated[str, typer.Argument(metavar="MODEL")], as_json: JsonOption = False) -> None:
    """Show one model and its newest versions."""
    with connect(context) as client:
        model = client.models.get(name)
        if as_json:
            emit_json(model)
            return
        versions = client.versions.list(name)
        usage = next((one for one in client.models.usage().models if one.model_name == name), None)
    stored = None
    if usage is not None:
        stored = f"{bytes_text(usage.stored_bytes)}; {bytes_text(usage.saved_bytes)} saved: equal files are stored once"
    print_fields([("model", model.name), ("id", model.id), ("stored", stored), ("created", time_text(model.created_at))])
    print_table(versions.data, VERSION_COLUMNS, empty="It has no versions.")


@app.command("alias")
def show_alias(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS")],
    at: Annotated[
        datetime | None,
        typer.Option("--at", parser=moment, metavar="TIME", help="Where it pointed then: ISO 8601, local without a zone."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which version an alias points at, or pointed at some time ago."""
    with connect(context) as client:
        found = client.models.alias(name, alias, at=at)
    if as_json:
        emit_json(found)
    else:
        say(f"{name}@{alias}: {found.version_id} since {time_text(found.updated_at)}")


@app.command("set-alias")
def set_alias(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS")],
    ref: Annotated[str, typer.Argument(metavar="REF", help="ver_..., MODEL@3, or MODEL@ another alias.")],
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version that is ready."""
    with connect(context) as client:
        moved = client.models.move_alias(name, alias, client.versions.get(ref).id)
    if as_json:
        emit_json(moved)
    else:
        say(f"{name}@{alias}: {moved.version_id}")


app.command("upload")(upload_model)
