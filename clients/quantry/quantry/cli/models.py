"""``quantry models``: list, show, upload; what their aliases do is in a file beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.aliases import delete_alias, list_aliases, set_alias, show_alias, show_alias_history
from quantry.cli.completion import model_names
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.imports import upload_model
from quantry.cli.model_notes import note_model, tag_model
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_page, print_table, time_text
from quantry.cli.references import text_lines
from quantry.cli.version_modules import show_figures, show_usage
from quantry.cli.versions import VERSION_COLUMNS
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.versions import Model

app = typer.Typer(help="Look at models, and point aliases at their versions.", no_args_is_help=True)

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
def show_model(
    context: typer.Context, name: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=model_names)], as_json: JsonOption = False
) -> None:
    """Show one model and its newest versions."""
    with connect(context) as client:
        model = client.models.get(name)
        if as_json:
            emit_json(model)
            return
        versions = client.versions.list(name)
        written = client.models.notes(name)
        usage = next((one for one in client.models.usage().models if one.model_name == name), None)
    stored = None
    if usage is not None:
        stored = f"{bytes_text(usage.stored_bytes)}; {bytes_text(usage.saved_bytes)} saved: equal files are stored once"
    print_fields(
        [
            ("model", model.name),
            ("id", model.id),
            ("tags", "\n".join(text_lines(written.tags)) or None),
            ("notes", written.notes or None),
            ("stored", stored),
            ("created", time_text(model.created_at)),
        ]
    )
    print_table(versions.data, VERSION_COLUMNS, empty="It has no versions.")


app.command("figures")(show_figures)
app.command("usage")(show_usage)
app.command("tag")(tag_model)
app.command("note")(note_model)
app.command("upload")(upload_model)
app.command("aliases")(list_aliases)
app.command("alias")(show_alias)
app.command("alias-history")(show_alias_history)
app.command("set-alias")(set_alias)
app.command("delete-alias")(delete_alias)
