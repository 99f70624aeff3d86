"""Settings of the registry, read from the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RegistrySettings(BaseSettings):
    """``QUANTRY_REGISTRY_PORT`` and so on."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    registry_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    registry_port: int = Field(ge=1, le=65535, description="TCP port to listen on.")
    max_dataset_bytes: int = Field(default=1024**3, ge=1, description="The longest text a dataset may have, in bytes.")
    registry_sweep_interval_s: float = Field(default=60.0, gt=0, description="Seconds between two sweeps of the buckets.")
    incoming_max_age_s: float = Field(
        default=7200.0, gt=0, description="Seconds; what lies in the vault's incoming for longer was left by a process that died."
    )
