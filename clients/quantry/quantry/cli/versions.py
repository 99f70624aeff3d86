"""``quantry versions``: list, show, export, delete, restore; what is written about them, and how they compare, is beside this."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.comparisons import compare_versions
from quantry.cli.completion import model_names
from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.evidence import print_evidence
from quantry.cli.lineage import show_lineage
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_page, print_table, say, time_text
from quantry.cli.push import push
from quantry.cli.references import RefArgument, tags_text, text_lines
from quantry.cli.transfers import transfer_bar
from quantry.cli.values import moment, selector, size_bytes
from quantry.cli.version_modules import show_modules
from quantry.cli.version_notes import note_version, show_card, tag_version
from quantry.client import Client
from quantry_core.methods import Format
from quantry_core.pages import DEFAULT_LIMIT
from quantry_core.servability import stated_adapter
from quantry_core.version_notes import ListedVersion
from quantry_core.versions import EdgeRole, ManifestFile, Version, VersionDetail, VersionKind, VersionState

app = typer.Typer(help="Look at versions, export, delete and restore them.", no_args_is_help=True)


def stored_text(version: Version) -> str:
    """Returns how a version's weights are stored: its scheme, of an adapter its kind and rank, else its dtype."""
    adapter = stated_adapter(version.recipe) if version.kind is VersionKind.ADAPTER else None
    return version.scheme or (version.dtype or "" if adapter is None else f"{adapter.kind} r{adapter.rank}")


VERSION_COLUMNS: tuple[Column[ListedVersion], ...] = (
    ("version", lambda version: version.ref),
    ("kind", lambda version: version.kind),
    ("state", lambda version: version.state),
    ("scheme", stored_text),
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


@app.command("list")
def list_versions(
    context: typer.Context,
    *,
    model: Annotated[str | None, typer.Option(help="Only versions of this model.", autocompletion=model_names)] = None,
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
        base = base_of_adapter(client, version)
    print_fields(
        [
            ("version", version.ref),
            ("id", version.id),
            ("kind", version.kind),
            ("state", version.state),
            ("format", version.format),
            ("scheme", version.scheme),
            ("dtype", version.dtype),
            ("adapter", None if base is None else f"{stored_text(version)}, of {base.ref}"),
            ("size", f"{bytes_text(version.size_bytes)}, weights {bytes_text(version.weights_bytes)}"),
            ("license", version.card.license),
            ("base models", ", ".join(version.card.base_model) or None),
            ("tags", tags_text(written.tags) or None),
            ("texts", "\n".join(text_lines(written.texts)) or None),
            ("notes", written.notes or None),
            ("manifest", version.manifest_digest),
            ("job", f"{version.job_id} (attempt {version.attempt})"),
            ("created", time_text(version.created_at)),
            ("bytes given up", None if version.bytes_released_at is None else time_text(version.bytes_released_at)),
        ]
    )
    print_table(version.files, _FILE_COLUMNS, empty="It has no files.")
    print_evidence(version)


def base_of_adapter(client: Client, version: VersionDetail) -> Version | None:
    """Returns what an adapter was trained on, None for other versions."""
    if version.kind is not VersionKind.ADAPTER:
        return None
    base_id = next((edge.parent_version_id for edge in version.edges if edge.role is EdgeRole.BASE), None)
    return None if base_id is None else client.versions.get(base_id)


@app.command("export")
def export_version(
    context: typer.Context,
    ref: RefArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Made if it is not there.", file_okay=False)],
    as_json: JsonOption = False,
) -> None:
    """Write a version into a directory that 'vllm serve' loads, each file checked against its digest, with a model card."""
    with connect(context) as client:
        version = client.versions.get(ref)
        with transfer_bar(version.ref, version.size_bytes) as progress:
            paths = client.versions.export(version.id, directory, progress=progress)
    if as_json:
        emit_json({"version_id": version.id, "directory": str(directory), "files": [str(path) for path in paths]})
    else:
        say(f"{version.ref}: {len(paths)} files, {bytes_text(version.size_bytes)}, digests checked, in {directory}")


@app.command("delete")
def delete_version(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Delete a version that nothing depends on, a master too; until a collection removes it, it can be restored."""
    with connect(context) as client:
        version = client.versions.get(ref)
        client.versions.delete(version.id)
    if as_json:
        emit_json({"deleted": version.id})
    else:
        say(f"{version.ref} is deleted; bring it back: quantry versions restore {version.id}")


@app.command("restore")
def restore_version(
    context: typer.Context,
    version_id: Annotated[str, typer.Argument(metavar="VERSION", help="ver_...: no name finds a deleted version.")],
    as_json: JsonOption = False,
) -> None:
    """Bring a deleted version back."""
    with connect(context) as client:
        version = client.versions.restore(version_id)
    if as_json:
        emit_json(version)
    else:
        say(f"{version.ref} ({version.id}) is restored")


@app.command("archive")
def archive_version(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Put a version aside: nothing new is made from it or served. Its files and evidence stay."""
    with connect(context) as client:
        version = client.versions.archive(client.versions.get(ref).id)
    if as_json:
        emit_json(version)
    else:
        say(f"{version.ref} is archived; take it back: quantry versions unarchive {version.id}")


@app.command("unarchive")
def unarchive_version(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Take an archived version back."""
    with connect(context) as client:
        version = client.versions.unarchive(client.versions.get(ref).id)
    if as_json:
        emit_json(version)
    else:
        say(f"{version.ref} is {version.state} again")


app.command("modules")(show_modules)
app.command("push")(push)
app.command("lineage")(show_lineage)
app.command("compare")(compare_versions)
app.command("tag")(tag_version)
app.command("note")(note_version)
app.command("card")(show_card)
