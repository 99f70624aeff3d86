"""How a version is named on the command line, and how its tags are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

RefArgument = Annotated[str, typer.Argument(metavar="REF", help="ver_..., name@3, name@alias, or name for the latest ready one.")]


def tags_text(tags: Mapping[str, str]) -> str:
    """Returns tags as they are written in a selector: ``golden,stage=test``."""
    return ",".join(f"{key}={value}" if value else key for key, value in sorted(tags.items()))
