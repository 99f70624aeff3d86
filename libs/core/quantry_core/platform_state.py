"""How an installation is, as far as its api can tell without asking anybody else: for people who look for what is wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PlatformState(BaseModel):
    """Answer of ``GET /api/v1/platform``."""

    model_config = ConfigDict(frozen=True)

    object: Literal["platform"] = "platform"
    time: datetime = Field(description="The api's clock.")
    database_time: datetime = Field(description="The database's clock, by which leases and keys expire.")
    version: str = Field(description="Of the api.")
    database_revision: str | None = Field(description="The migration that the database is at; None where none was ever applied.")
    wanted_revision: str | None = Field(description="The migration that this api was written for; None where it has no list of them.")
    key_expires_at: datetime | None = Field(description="Of the key that asks; None: it does not expire.")
    verified_at: datetime | None = Field(description="When the vault was last read and hashed again as a whole or in part; None: never.")
    num_damaged: int = Field(description="Blobs that this found damaged or missing.")
    has_webhooks: bool = Field(description="A key to keep webhooks' secrets with is set, so that there can be some.")
    has_captures: bool = Field(description="A key to keep prompts with is set.")
