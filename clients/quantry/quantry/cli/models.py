"""``quantry models``."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, emit_json, print_fields, print_page, print_table, time_text
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
        print_page(page, _COLUMNS, empty="There are no models; import one with 'quantry jobs submit import'.")


@app.command("show")
def show_model(context: typer.Context, name: Annotated[str, typer.Argument(metavar="MODEL")], as_json: JsonOption = False) -> None:
    """Show one model and its newest versions."""
    with connect(context) as client:
        model = client.models.get(name)
        if as_json:
            emit_json(model)
            return
        versions = client.versions.list(name)
    print_fields([("model", model.name), ("id", model.id), ("created", time_text(model.created_at))])
    print_table(versions.data, VERSION_COLUMNS, empty="It has no versions.")
