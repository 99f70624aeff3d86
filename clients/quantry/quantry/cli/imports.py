"""``quantry import`` and ``quantry models upload``: masters from the hub, a bucket, an upload, the server's disk or this machine's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.following import follow_submitted
from quantry.cli.output import bytes_text, emit_json, say, stderr
from quantry.cli.specs import build
from quantry.cli.transfers import transfer_bar
from quantry.client import Client
from quantry.folders import master_folder
from quantry_core.jobs import ImportSpec, JobStatus
from quantry_core.sources import is_local
from quantry_core.uploads import Upload

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The model it becomes a version of; made if it is not there yet.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Follow the job to its end; exit with 1 unless it succeeds.")]
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A directory of this machine, hf:<owner>/<name>[@revision], s3:<bucket>/<prefix>, upload:upl_..."
    ),
]


def import_model(
    context: typer.Context,
    name: NameArgument,
    source: SourceArgument,
    *,
    on_server: Annotated[bool, typer.Option("--on-server", help="SOURCE is a directory of the server, which reads it there.")] = False,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a 16-bit checkpoint into the registry as a master; a directory of this machine is uploaded for it."""
    with connect(context) as client:
        if is_local(source) and not on_server:
            directory = Path(source)
            if not directory.is_dir():
                raise typer.BadParameter(f"there is no directory {source} on this machine; with --on-server it is looked for on the server")
            source = upload_directory(client, directory).source
        _submit(client, name, source, wait=wait, as_json=as_json)


def upload_model(
    context: typer.Context,
    name: NameArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Of this machine.", exists=True, file_okay=False)],
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a directory of this machine and import it as a master."""
    with connect(context) as client:
        _submit(client, name, upload_directory(client, directory).source, wait=wait, as_json=as_json)


def upload_directory(client: Client, directory: Path) -> Upload:
    """Returns an upload of a directory, sent under a progress bar where there is a terminal."""
    total_bytes = sum(master_folder(directory).files().values())
    with transfer_bar(directory.name, total_bytes) as progress:
        upload = client.uploads.send(directory, progress=progress)
    stderr().print(f"{upload.id}: {len(upload.files)} files, {bytes_text(upload.size_bytes)} sent")
    return upload


def _submit(client: Client, name: str, source: str, *, wait: bool, as_json: bool) -> None:
    job = client.jobs.submit(build(ImportSpec, model=name, source=source))
    if wait:
        follow_submitted(client, job.id, as_json=as_json)
    elif as_json:
        emit_json(job)
    else:
        hint = "" if job.status is JobStatus.SUCCEEDED else f"; follow it: quantry jobs watch {job.id}"
        say(f"{job.id} {job.status}{hint}")
