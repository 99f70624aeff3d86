"""Settings of the dashboard, read from the environment. Times in seconds."""

from __future__ import annotations

import secrets
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_core.oidc import check_issuer, is_safe_address

CALLBACK = "/sign-in/provider/callback"


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
    oidc_issuer: str | None = Field(
        default=None,
        description="The provider people may sign in by, exactly as it names itself; the same as the api's. None: by keys alone.",
    )
    oidc_client_id: str | None = Field(default=None, min_length=1, description="What the provider calls this installation.")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="What the provider knows the dashboard by. None: a public client, by PKCE alone."
    )
    oidc_redirect_url: str | None = Field(
        default=None, description="Where the provider sends people back: the dashboard's own address with /sign-in/provider/callback."
    )
    oidc_scopes: str = Field(
        default="openid email profile", description="What is asked for; some providers have groups as one of their own."
    )
    oidc_name: str = Field(
        default="your organisation", min_length=1, max_length=60, description="What the provider is called on the button."
    )
    dashboard_session_s: float = Field(default=12 * 3600.0, gt=0, description="A session that shows nothing for so long ends.")
    dashboard_max_sessions: int = Field(default=200, ge=1, description="Beyond it the one unused for longest ends.")
    dashboard_trusted_proxies: str = Field(
        default="",
        description="Addresses or networks, comma-separated, whose X-Forwarded-For tells who signs in; empty for none, * for all.",
    )
    dashboard_timeout_s: float = Field(default=10.0, gt=0, description="The API is taken for away when it keeps a page waiting longer.")

    @field_validator("oidc_issuer")
    @classmethod
    def _check_issuer(cls, issuer: str | None) -> str | None:
        return None if issuer is None else check_issuer(issuer)

    @field_validator("oidc_scopes")
    @classmethod
    def _has_openid(cls, scopes: str) -> str:
        if "openid" not in scopes.split():
            raise ValueError("openid is one of the scopes: without it there is no ID token")
        return scopes

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        if self.oidc_issuer is None:
            return self
        if self.oidc_client_id is None:
            raise ValueError("QUANTRY_OIDC_CLIENT_ID is missing: the provider asks who sends people to it")
        if self.oidc_redirect_url is None or not is_safe_address(self.oidc_redirect_url):
            raise ValueError("QUANTRY_OIDC_REDIRECT_URL is missing or not https: the dashboard's address with /sign-in/provider/callback")
        if urlsplit(self.oidc_redirect_url).path != CALLBACK:
            raise ValueError(f"QUANTRY_OIDC_REDIRECT_URL ends with {CALLBACK}, and nothing follows")
        return self

    @field_validator("control_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")
