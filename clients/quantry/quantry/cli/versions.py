"""``quantry versions``: list, show, export, delete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_page, print_table, say, stderr, time_text
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.versions import Evidence, ManifestFile, Version

app = typer.Typer(help="Look at versions, export and delete them.", no_args_is_help=True)

RefArgument = Annotated[str, typer.Argument(metavar="REF", help="ver_..., name@3, name@alias, or name for the latest ready one.")]

VERSION_COLUMNS: tuple[Column[Version], ...] = (
    ("version", lambda version: version.ref),
    ("kind", lambda version: version.kind),
    ("state", lambda version: version.state),
    ("scheme", lambda version: version.scheme or version.dtype or ""),
    ("weights", lambda version: bytes_text(version.weights_bytes)),
    ("id", lambda version: version.id),
    ("created", lambda version: time_text(version.created_at)),
)

_FILE_COLUMNS: tuple[Column[ManifestFile], ...] = (
    ("file", lambda file: file.path),
    ("size", lambda file: bytes_text(file.size_bytes)),
    ("sha256", lambda file: file.sha256),
)

_EVIDENCE_COLUMNS: tuple[Column[Evidence], ...] = (
    ("evidence", lambda evidence: f"{evidence.kind} {evidence.name}"),
    ("verdict", lambda evidence: evidence.verdict),
    ("metrics", lambda evidence: json.dumps(evidence.metrics, ensure_ascii=False)),
)


@app.command("list")
def list_versions(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only versions of this model.")] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List versions, newest first."""
    with connect(context) as client:
        page = client.versions.list(model, after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, VERSION_COLUMNS, empty="There are no versions.")


@app.command("show")
def show_version(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Show one version with its files and evidence."""
    with connect(context) as client:
        version = client.versions.get(ref)
    if as_json:
        emit_json(version)
        return
    print_fields(
        [
            ("version", version.ref),
            ("id", version.id),
            ("kind", version.kind),
            ("state", version.state),
            ("format", version.format),
            ("scheme", version.scheme),
            ("dtype", version.dtype),
            ("size", f"{bytes_text(version.size_bytes)}, weights {bytes_text(version.weights_bytes)}"),
            ("manifest", version.manifest_digest),
            ("job", f"{version.job_id} (attempt {version.attempt})"),
            ("created", time_text(version.created_at)),
        ]
    )
    print_table(version.files, _FILE_COLUMNS, empty="It has no files.")
    print_table(version.evidence, _EVIDENCE_COLUMNS, empty="Nothing was measured yet.")


@app.command("export")
def export_version(
    context: typer.Context,
    ref: RefArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Made if it is not there.", file_okay=False)],
    as_json: JsonOption = False,
) -> None:
    """Write a version's files into a directory, each checked against its digest."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = stderr()
    with connect(context) as client, Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        version = client.versions.get(ref)
        task = progress.add_task(version.ref, total=version.size_bytes)
        paths = client.versions.export(version.id, directory, progress=lambda num_bytes: progress.advance(task, num_bytes))
    if as_json:
        emit_json({"version_id": version.id, "directory": str(directory), "files": [str(path) for path in paths]})
    else:
        say(f"{version.ref}: {len(paths)} files, {bytes_text(version.size_bytes)}, digests checked, in {directory}")


@app.command("delete")
def delete_version(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Delete a version; masters, and versions in use, are refused."""
    with connect(context) as client:
        version = client.versions.get(ref)
        client.versions.delete(version.id)
    if as_json:
        emit_json({"deleted": version.id})
    else:
        say(f"{version.ref} ({version.id}) is deleted")
