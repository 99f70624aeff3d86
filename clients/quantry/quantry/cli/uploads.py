"""``quantry uploads``: folders that were sent and are not imported yet."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_page, print_table, say, time_text
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.uploads import Upload
from quantry_core.versions import ManifestFile

app = typer.Typer(help="Look at what was sent and is not imported yet; 'quantry models upload' sends.", no_args_is_help=True)

UploadArgument = Annotated[str, typer.Argument(metavar="UPLOAD", help="upl_...")]

_COLUMNS: tuple[Column[Upload], ...] = (
    ("upload", lambda upload: upload.id),
    ("begun", lambda upload: time_text(upload.created_at)),
    ("kept until", lambda upload: time_text(upload.expires_at)),
)
_FILES: tuple[Column[ManifestFile], ...] = (
    ("file", lambda file: file.path),
    ("size", lambda file: bytes_text(file.size_bytes)),
    ("sha256", lambda file: file.sha256),
)


@app.command("list")
def list_uploads(
    context: typer.Context, limit: LimitOption = DEFAULT_LIMIT, after: AfterOption = None, as_json: JsonOption = False
) -> None:
    """List uploads, newest first."""
    with connect(context) as client:
        page = client.uploads.list(after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="There are no uploads.")


@app.command("show")
def show_upload(context: typer.Context, upload_id: UploadArgument, as_json: JsonOption = False) -> None:
    """Show the files of an upload that have arrived."""
    with connect(context) as client:
        upload = client.uploads.get(upload_id)
    if as_json:
        emit_json(upload)
    else:
        print_table(upload.files, _FILES, empty="No file has arrived yet.")


@app.command("delete")
def delete_upload(context: typer.Context, upload_id: UploadArgument, as_json: JsonOption = False) -> None:
    """Remove an upload; what was imported from it stays."""
    with connect(context) as client:
        client.uploads.delete(upload_id)
    if as_json:
        emit_json({"deleted": upload_id})
    else:
        say(f"{upload_id} is removed")
