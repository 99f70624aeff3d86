"""Settings of the api, read from the environment. What the database needs is in quantry_store.settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIN_HEARTBEATS_PER_LEASE = 2


class ApiSettings(BaseSettings):
    """``QUANTRY_BROKER_URL`` and so on; what only this service has begins with ``QUANTRY_API_``."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    api_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    api_port: int = Field(default=8001, ge=0, le=65535, description="Port to listen on.")
    broker_url: SecretStr = Field(description="Redis that wakes workers: redis://:password@host:port/0.")
    lease_s: float = Field(default=60.0, gt=0, description="Seconds an attempt holds a job without a heartbeat.")
    heartbeat_s: float = Field(default=10.0, gt=0, description="Seconds between a worker's heartbeats.")
    sweep_interval_s: float = Field(default=5.0, gt=0, description="Seconds between two looks for expired leases and waiting queues.")
    import_roots: Annotated[list[Path], NoDecode] = Field(
        default=[], description="Absolute folders below which an import may read, separated as in PATH."
    )

    @field_validator("import_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("import_roots")
    @classmethod
    def _check_roots(cls, roots: list[Path]) -> list[Path]:
        relative = [str(root) for root in roots if not root.is_absolute()]
        if relative:
            raise ValueError(f"import roots are absolute paths, these are not: {', '.join(relative)}")
        return roots

    @model_validator(mode="after")
    def _check_heartbeat(self) -> ApiSettings:
        if self.heartbeat_s * MIN_HEARTBEATS_PER_LEASE > self.lease_s:
            raise ValueError(f"a lease of {self.lease_s} s leaves no room for a lost heartbeat every {self.heartbeat_s} s")
        return self
