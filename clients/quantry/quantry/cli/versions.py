"""``quantry versions``: list, show, export, delete; what is written about them, and how they compare, is in files beside this one."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from quantry.cli.comparisons import compare_versions
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.lineage import show_lineage
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_page, print_table, say, stderr, time_text
from quantry.cli.references import RefArgument, tags_text
from quantry.cli.values import moment, selector, size_bytes
from quantry.cli.version_notes import note_version, show_card, tag_version
from quantry_core.methods import Format
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.version_notes import ListedVersion
from quantry_core.versions import Evidence, ManifestFile, VersionKind, VersionState

app = typer.Typer(help="Look at versions, export and delete them.", no_args_is_help=True)

VERSION_COLUMNS: tuple[Column[ListedVersion], ...] = (
    ("version", lambda version: version.ref),
    ("kind", lambda version: version.kind),
    ("state", lambda version: version.state),
    ("scheme", lambda version: version.scheme or version.dtype or ""),
    ("size", lambda version: bytes_text(version.size_bytes)),
    ("shared", lambda version: bytes_text(version.shared_bytes) if version.shared_bytes else ""),
    ("tags", lambda version: tags_text(version.tags)),
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
    *,
    model: Annotated[str | None, typer.Option(help="Only versions of this model.")] = None,
    kind: Annotated[VersionKind | None, typer.Option(help="Only of this kind.")] = None,
    state: Annotated[VersionState | None, typer.Option(help="Only in this state.")] = None,
    scheme: Annotated[str | None, typer.Option(help="Only of this scheme, such as W4A16.")] = None,
    format_: Annotated[Format | None, typer.Option("--format", help="Only stored in this format.")] = None,
    license_: Annotated[str | None, typer.Option("--license", help="Only under this licence.")] = None,
    tags: Annotated[
        str | None, typer.Option("--tag", parser=selector, metavar="SELECTOR", help="By tags, such as stage=test,owner!=ann,golden.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Part of the model's name or of the notes.")] = None,
    since: Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="Created then or later.")] = None,
    until: Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="Created before.")] = None,
    min_size: Annotated[int | None, typer.Option(parser=size_bytes, metavar="SIZE", help="Such as 100MiB.")] = None,
    max_size: Annotated[int | None, typer.Option(parser=size_bytes, metavar="SIZE", help="Such as 2GiB.")] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List versions, newest first."""
    with connect(context) as client:
        page = client.versions.list(
            model,
            after=after,
            limit=limit,
            kind=kind,
            state=state,
            scheme=scheme,
            format=format_,
            license=license_,
            tags=tags,
            text=text,
            created_after=since,
            created_before=until,
            min_size_bytes=min_size,
            max_size_bytes=max_size,
        )
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
        written = client.versions.notes(version.id)
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
            ("license", version.card.license),
            ("base models", ", ".join(version.card.base_model) or None),
            ("tags", tags_text(written.tags) or None),
            ("notes", written.notes or None),
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
    """Write a version into a directory that 'vllm serve' loads, each file checked against its digest, with a model card."""
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


app.command("lineage")(show_lineage)
app.command("compare")(compare_versions)
app.command("tag")(tag_version)
app.command("note")(note_version)
app.command("card")(show_card)
