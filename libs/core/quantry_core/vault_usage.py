"""What versions take in the vault: equal bytes are stored once, and what that saves is told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Usage(BaseModel):
    """Bytes of some versions, counted twice: file by file, and as they are stored."""

    model_config = ConfigDict(frozen=True)

    num_versions: int
    logical_bytes: int = Field(description="Sizes of all files of all versions, as if each had its own.")
    stored_bytes: int = Field(description="The same with equal files counted once.")
    saved_bytes: int = Field(description="The difference: what sharing saves.")


class ModelUsage(Usage):
    """What the versions of one model take. Bytes that two models share count as stored in each of them."""

    model_name: str


class VaultUsage(Usage):
    """What the versions of a project take, in all and by model."""

    models: list[ModelUsage] = Field(description="By name.")
