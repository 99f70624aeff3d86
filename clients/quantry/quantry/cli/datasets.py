"""``quantry datasets``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_page, say, time_text
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.versions import Dataset

app = typer.Typer(help="List and upload datasets.", no_args_is_help=True)

_COLUMNS: tuple[Column[Dataset], ...] = (
    ("dataset", lambda dataset: dataset.ref),
    ("size", lambda dataset: bytes_text(dataset.size_bytes)),
    ("id", lambda dataset: dataset.id),
    ("created", lambda dataset: time_text(dataset.created_at)),
)


@app.command("list")
def list_datasets(
    context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False
) -> None:
    """List datasets, newest first."""
    with connect(context) as client:
        page = client.datasets.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no datasets; upload one with 'quantry datasets upload'.")


@app.command("upload")
def upload_dataset(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    path: Annotated[Path, typer.Argument(metavar="FILE", help="UTF-8 text.", exists=True, dir_okay=False, readable=True)],
    as_json: JsonOption = False,
) -> None:
    """Upload a text file as the next version of a dataset; the same bytes again change nothing."""
    with connect(context) as client:
        dataset = client.datasets.upload(name, path)
    if as_json:
        emit_json(dataset)
    else:
        say(f"{dataset.ref} ({dataset.id}), {bytes_text(dataset.size_bytes)}")
