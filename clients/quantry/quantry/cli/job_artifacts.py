"""``quantry jobs artifacts`` and ``quantry jobs download``: what jobs left beside their versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.completion import job_ids
from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_table, say
from quantry.cli.transfers import transfer_bar
from quantry_core.versions import ManifestFile

JobArgument = Annotated[str, typer.Argument(metavar="JOB", autocompletion=job_ids, help="job_...")]

_COLUMNS: tuple[Column[ManifestFile], ...] = (
    ("file", lambda file: file.path),
    ("size", lambda file: bytes_text(file.size_bytes)),
    ("sha256", lambda file: file.sha256),
)


def list_artifacts(context: typer.Context, job_id: JobArgument, as_json: JsonOption = False) -> None:
    """List the files that a job left, such as the raw results of an evaluation."""
    with connect(context) as client:
        files = client.jobs.artifacts(job_id)
    if as_json:
        emit_json(files)
    else:
        print_table(files, _COLUMNS, empty="It left no files.")


def download_artifacts(
    context: typer.Context,
    job_id: JobArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Made if it is not there.", file_okay=False)],
    paths: Annotated[list[str] | None, typer.Argument(metavar="[FILE...]", help="Only these; all where none is named.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write files that a job left into a directory, each checked against its digest."""
    with connect(context) as client:
        files = _chosen(client.jobs.artifacts(job_id), paths or [], job_id)
        size_bytes = sum(file.size_bytes for file in files)
        with transfer_bar(job_id, size_bytes) as progress:
            written = [client.jobs.download_artifact(job_id, file, directory / file.path, progress=progress) for file in files]
    if as_json:
        emit_json({"job_id": job_id, "directory": str(directory), "files": [str(path) for path in written]})
    else:
        say(f"{job_id}: {len(written)} files, {bytes_text(size_bytes)}, digests checked, in {directory}")


def _chosen(files: Sequence[ManifestFile], paths: Sequence[str], job_id: str) -> Sequence[ManifestFile]:
    """Returns the files of these paths, all where none is named; a usage error that names what there is for another path."""
    known = {file.path: file for file in files}
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise typer.BadParameter(f"{job_id} left no file {unknown[0]}; there are: {', '.join(known) or 'none'}")
    return [known[path] for path in dict.fromkeys(paths)] if paths else files
