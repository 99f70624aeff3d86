"""Opt-in capture of prompts: which share of a deployment's requests is kept, how many, for how long. Always encrypted at rest."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from quantry_core.names import Name


class CaptureSettings(BaseModel):
    """What a deployment keeps of its requests' prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    percent: float = Field(gt=0, le=100, description="Share of requests whose prompt is kept.")
    max_prompts: int = Field(default=10_000, ge=1, le=1_000_000, description="Kept at once; past it no more are taken.")
    retention_days: int = Field(default=30, ge=1, le=365, description="Older ones are deleted.")


class CapturedPrompt(BaseModel):
    """One prompt on its way from a gateway to the api, and back out of its encryption."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1, max_length=64, description="Made by the gateway: told twice it is kept once.")
    deployment_id: str
    release_id: str
    captured_at: AwareDatetime
    path: Literal["/v1/completions", "/v1/chat/completions"]
    body: str = Field(max_length=262_144, description="The prompt or messages as JSON; nothing else of the request.")


class CaptureReport(BaseModel):
    """Prompts that a gateway tells of."""

    model_config = ConfigDict(frozen=True)

    prompts: list[CapturedPrompt] = Field(max_length=200)


class CaptureStatus(BaseModel):
    """What is kept of a deployment."""

    model_config = ConfigDict(frozen=True)

    object: Literal["deployment.capture"] = "deployment.capture"
    settings: CaptureSettings | None = Field(description="None: nothing new is kept.")
    num_prompts: int
    oldest_at: datetime | None = None
    newest_at: datetime | None = None


class CaptureDatasetOrder(BaseModel):
    """What is captured becomes a version of a dataset, scrubbed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="The dataset's; a new version of it where it exists.")
