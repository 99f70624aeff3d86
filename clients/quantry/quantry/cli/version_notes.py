"""``quantry versions tag``, ``note`` and ``card``: what is written about a version, by people and by the platform."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import emit_json, emit_text, say
from quantry.cli.references import RefArgument, tags_of_version
from quantry.cli.values import labels
from quantry_core.version_notes import VersionNotesChange


def tag_version(
    context: typer.Context,
    ref: RefArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Set, whatever they were before.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Taken away; may be given again.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Set tags of a version, or take some away; without either, show them."""
    with connect(context) as client:
        if tags or remove:
            written = client.versions.annotate(ref, VersionNotesChange(set_tags=labels(tags or [], "KEY=VALUE"), remove_tags=remove or []))
        else:
            written = client.versions.notes(ref)
    if as_json:
        emit_json(written)
    else:
        say(tags_of_version(written) or "It has no tags.")


def note_version(
    context: typer.Context,
    ref: RefArgument,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Takes the place of the notes; an empty one removes them.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the notes of a version; without a text, show them."""
    with connect(context) as client:
        written = client.versions.notes(ref) if text is None else client.versions.annotate(ref, VersionNotesChange(notes=text))
    if as_json:
        emit_json(written)
    else:
        say(written.notes or "There are no notes.")


def show_card(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Print the model card that an export writes."""
    with connect(context) as client:
        text = client.versions.card(ref)
    if as_json:
        emit_json({"version": ref, "card": text})
    else:
        emit_text(text)
