"""How a version is named on the command line, and how its tags are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from quantry.cli.completion import schedule_ids, version_refs
from quantry_core.version_notes import VersionNotes

RefArgument = Annotated[
    str, typer.Argument(metavar="REF", autocompletion=version_refs, help="ver_..., name@3, name@alias, or name for the latest ready one.")
]
ScheduleOption = Annotated[
    str | None, typer.Option(metavar="SCHEDULE", autocompletion=schedule_ids, help="Only what this schedule submitted, sch_...")
]


def tags_text(tags: Mapping[str, str]) -> str:
    """Returns tags as they are written in a selector: ``golden,stage=test``."""
    return ",".join(f"{key}={value}" if value else key for key, value in sorted(tags.items()))


def tags_of_version(notes: VersionNotes) -> str:
    """Returns the tags of a version for people: those that a selector finds, and below them longer ones; empty where there are none."""
    return "\n".join(filter(None, (tags_text(notes.tags), *text_lines(notes.texts))))


def text_lines(texts: Mapping[str, str]) -> list[str]:
    """Returns longer tags, which no selector could write, a line for each: ``about: The one that reads verse.``"""
    return [f"{key}: {value}" if value else key for key, value in sorted(texts.items())]
