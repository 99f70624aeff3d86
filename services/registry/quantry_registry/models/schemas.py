"""Bodies of the models endpoints."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.aliases import Alias, AliasChange

VERSION_ID_PATTERN = r"^ver_[0-9a-f]{32}$"

VersionId = Annotated[str, Field(pattern=VERSION_ID_PATTERN, description="ver_...")]


class AliasMove(BaseModel):
    """Points an alias at a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version_id: VersionId


class AliasList(BaseModel):
    """Every alias of a model, by name."""

    data: list[Alias]


class AliasHistory(BaseModel):
    """Every move of an alias and its deletions, newest first."""

    data: list[AliasChange]
