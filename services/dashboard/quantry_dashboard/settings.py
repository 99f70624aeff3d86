"""Settings of the dashboard, read from the environment. Times in seconds."""

from __future__ import annotations

import secrets

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class DashboardSettings(BaseSettings):
    """Where the dashboard listens and which API it is a client of. Each is QUANTRY_<NAME> in capitals."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True)

    dashboard_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    dashboard_port: int = Field(default=8080, ge=0, le=65535, description="TCP port to listen on.")
    control_url: str = Field(description="The public origin whose API it shows: the gateway, such as http://127.0.0.1:8000.")
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#]+$",
        description="Where people and hosts elsewhere reach the API: commands that pages show name it. None: control_url.",
    )
    dashboard_secret: SecretStr = Field(
        default_factory=lambda: SecretStr(secrets.token_hex(32)),
        min_length=16,
        description="Signs the session cookie; made anew at each start where it is not given.",
    )
    dashboard_secure_cookie: bool = Field(default=False, description="Set it where people reach the dashboard over https.")
    dashboard_session_s: float = Field(default=12 * 3600.0, gt=0, description="A session that shows nothing for so long ends.")
    dashboard_max_sessions: int = Field(default=200, ge=1, description="Beyond it the one unused for longest ends.")
    dashboard_timeout_s: float = Field(default=10.0, gt=0, description="The API is taken for away when it keeps a page waiting longer.")

    @field_validator("control_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")
