"""What people write about a version, and versions as lists show them. The version itself never changes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.jobs.labels import Labels
from quantry_core.versions import Version

MAX_NOTES_CHARS = 10_000

Notes = Annotated[str, StringConstraints(max_length=MAX_NOTES_CHARS)]


class VersionNotes(BaseModel):
    """Tags and notes of a version, as they are now."""

    model_config = ConfigDict(frozen=True)

    version_id: str
    tags: dict[str, str] = Field(description="Short strings to find it by.")
    texts: dict[str, str] = Field(
        default_factory=dict, description="Longer tags, which MLflow's clients set: no selector finds them. No key is in both."
    )
    notes: str = Field(description="Text for people.")
    updated_at: datetime | None = Field(description="None while nobody has written anything.")


class VersionNotesChange(BaseModel):
    """What to change; what is left out stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tags: Labels | None = Field(default=None, description="Takes the place of all tags there are.")
    set_tags: Labels = Field(default_factory=dict, description="Added to the tags there are, or put in their place by key.")
    remove_tags: list[str] = Field(default_factory=list, max_length=64, description="Keys of tags to take away.")
    notes: Notes | None = Field(default=None, description="Takes the place of the notes there are.")


class ListedVersion(Version):
    """A version as lists show it: with what was written about it, and what it shares."""

    tags: dict[str, str] = Field(default_factory=dict)
    notes: str = ""
    shared_bytes: int = Field(default=0, description="Bytes of its files that another version holds too, stored once for both.")
