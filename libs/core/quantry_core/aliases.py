"""Aliases: names such as ``production`` that point at one version of a model, and where they pointed before."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.names import Name


class Alias(BaseModel):
    """Where an alias points now."""

    model_config = ConfigDict(frozen=True)

    model_name: str
    alias: Name
    version_id: str
    updated_at: datetime


class AliasChange(BaseModel):
    """One move of an alias, or its deletion: with all of them, what it was at any time is known."""

    model_config = ConfigDict(frozen=True)

    alias: Name
    version_id: str | None = Field(description="Where it points from then on; None where it was deleted.")
    previous_version_id: str | None
    key_id: str | None = Field(description="Who moved it; None where the platform itself did.")
    created_at: datetime
