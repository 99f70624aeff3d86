"""What people write about a model, and how the MLflow door sees models and versions: with their tags, notes and aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.version_notes import Notes
from quantry_core.versions import Version


class ModelNotes(BaseModel):
    """Tags and notes of a model, as they are now."""

    model_config = ConfigDict(frozen=True)

    model_id: str
    tags: dict[str, str] = Field(description="Short texts to find it by.")
    notes: str = Field(description="Text for people.")
    updated_at: datetime | None = Field(description="None while nobody has written anything.")


class ModelNotesChange(BaseModel):
    """What to change; what is left out stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set_tags: dict[str, str] = Field(default_factory=dict, description="Added to the tags there are, or put in their place by key.")
    remove_tags: list[str] = Field(default_factory=list, max_length=64, description="Keys of tags to take away.")
    notes: Notes | None = Field(default=None, description="Takes the place of the notes there are.")


@dataclass(frozen=True)
class VersionRecord:
    """A version with what is written about it and what points at it."""

    version: Version
    tags: Mapping[str, str]
    notes: str
    updated_at: datetime
    aliases: Sequence[str]
    """By name."""


@dataclass(frozen=True)
class ModelRecord:
    """A model with what is written about it."""

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    tags: Mapping[str, str]
    notes: str
    aliases: Mapping[str, int]
    """By name, the number of the version that each points at."""
    latest: Sequence[VersionRecord]
    """Its latest version, and the latest of those that were put aside."""
