"""How a version is named on the command line, and how its tags are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from quantry.cli.completion import schedule_ids, version_refs

RefArgument = Annotated[
    str, typer.Argument(metavar="REF", autocompletion=version_refs, help="ver_..., name@3, name@alias, or name for the latest ready one.")
]
ScheduleOption = Annotated[
    str | None, typer.Option(metavar="SCHEDULE", autocompletion=schedule_ids, help="Only what this schedule submitted, sch_...")
]


def tags_text(tags: Mapping[str, str]) -> str:
    """Returns tags as they are written in a selector: ``golden,stage=test``."""
    return ",".join(f"{key}={value}" if value else key for key, value in sorted(tags.items()))
