"""``quantry models tag`` and ``note``: what people write about a model."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.completion import model_names
from quantry.cli.context import JsonOption, connect
from quantry.cli.output import emit_json, say
from quantry.cli.references import text_lines
from quantry.cli.values import tags as parsed_tags
from quantry_core.model_notes import ModelNotesChange

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", autocompletion=model_names)]


def tag_model(
    context: typer.Context,
    name: ModelArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Set, whatever they were before.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Taken away; may be given again.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Set tags of a model, or take some away; without either, show them."""
    with connect(context) as client:
        if tags or remove:
            written = client.models.annotate(name, ModelNotesChange(set_tags=parsed_tags(tags or []), remove_tags=remove or []))
        else:
            written = client.models.notes(name)
    if as_json:
        emit_json(written)
    else:
        say("\n".join(text_lines(written.tags)) or "It has no tags.")


def note_model(
    context: typer.Context,
    name: ModelArgument,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Takes the place of the notes; an empty one removes them.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the notes of a model; without a text, show them."""
    with connect(context) as client:
        written = client.models.notes(name) if text is None else client.models.annotate(name, ModelNotesChange(notes=text))
    if as_json:
        emit_json(written)
    else:
        say(written.notes or "There are no notes.")
