"""Uploads: files that a client sends, kept until they are imported or have expired."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.sources import UPLOAD_PREFIX
from quantry_core.versions import ManifestFile


class Upload(BaseModel):
    """An upload with what has arrived of it."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    created_at: datetime
    expires_at: datetime = Field(description="Then it is removed, unless an unfinished import still needs it.")
    files: list[ManifestFile] = Field(description="What has arrived whole, by path.")

    @property
    def source(self) -> str:
        """How an import names it."""
        return f"{UPLOAD_PREFIX}{self.id}"

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)
