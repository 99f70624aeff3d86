"""``quantry versions push``: a version to a repository of the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import bytes_text, emit_json, say
from quantry.cli.references import RefArgument
from quantry.cli.transfers import transfer_bar
from quantry.hub import DEFAULT_REVISION, HubRepository, endpoint_of, token_of
from quantry.hub_push import push_version


def push(
    context: typer.Context,
    ref: RefArgument,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Made if it is not there.")],
    *,
    is_private: Annotated[bool, typer.Option("--private", help="A new repository is private; one that is public is refused.")] = False,
    revision: Annotated[str, typer.Option(help="The branch; made if it is not there.")] = DEFAULT_REVISION,
    as_json: JsonOption = False,
) -> None:
    """Push a version to the Hugging Face hub with its model card, every digest checked there.

    Your own token writes: HF_TOKEN, or what 'hf auth login' keeps. HF_ENDPOINT names another hub.
    """
    with HubRepository(repository, token_of(), endpoint=endpoint_of(), revision=revision) as hub, connect(context) as client:
        version = client.versions.get(ref)
        with transfer_bar(version.ref, version.size_bytes) as progress:
            pushed = push_version(client, version.id, hub, is_private=is_private, progress=progress)
    if as_json:
        emit_json({"version_id": version.id, **pushed._asdict()})
        return
    size = bytes_text(version.size_bytes)
    say(f"{version.ref}: {len(pushed.files)} files, {size}, digests checked, at {pushed.url}, commit {pushed.commit[:12]}")
    for path in pushed.removed:
        say(f"removed there: {path}, weights of what lay there before")
