"""Settings of the gateway, read from the environment. Sizes in bytes, times in seconds."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """Where the gateway listens, what it forwards to, and how long it waits. Each is QUANTRY_<NAME> in capitals."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True)

    gateway_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    gateway_port: int = Field(default=8000, ge=0, le=65535, description="TCP port to listen on.")
    api_url: str = Field(description="Base URL of the api service, such as http://127.0.0.1:8001.")
    registry_url: str = Field(description="Base URL of the registry service.")
    gateway_token: SecretStr = Field(description="Secret of a key of role gateway: it may read the routes.")
    gateway_state_dir: Path = Field(description="Folder that keeps the last routes, so that a restart serves while the api is away.")

    gateway_max_body_bytes: int = Field(default=10 * 1024**2, ge=1024, description="Largest body of a /v1 request.")
    gateway_connect_timeout_s: float = Field(
        default=2.0, gt=0, description="A replica or service that takes no connection by then is away."
    )
    gateway_head_timeout_s: float = Field(
        default=120.0, gt=0, description="A service that has a whole request and begins no answer by then has hung."
    )
    gateway_registry_head_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="The same where the registry goes over every byte: seals, derivations, files, datasets.",
    )
    gateway_service_connections: int = Field(default=512, ge=1, description="Connections to one service at a time, streams included.")
    gateway_idle_timeout_s: float = Field(default=600.0, gt=0, description="A replica that sends nothing for so long has hung.")
    gateway_set_aside_s: float = Field(default=3.0, ge=0, description="A replica that refused a connection is tried last for so long.")
    gateway_ready_wait_s: float = Field(
        default=2.0,
        ge=0,
        description="A request for a deployment with no ready replica waits so long for one: a ready one is learnt within a second.",
    )
    gateway_retry_after_s: int = Field(default=2, ge=1, description="Retry-After of 503 answers.")
    gateway_routes_wait_s: float = Field(default=20.0, ge=0, le=60, description="How long the api may hold one routes request.")
    gateway_trusted_proxies: str = Field(
        default="", description="Comma-separated addresses whose X-Forwarded-For is believed; empty for none, * for all."
    )

    @field_validator("api_url", "registry_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")
