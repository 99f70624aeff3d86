"""Settings that every control-plane service has: what it takes from clients. Read from the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_http.body import DEFAULT_MAX_BODY_BYTES


class HttpSettings(BaseSettings):
    """``QUANTRY_HTTP_REQUESTS_PER_MINUTE`` and so on. Each process counts on its own, and begins at nothing."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_HTTP_", frozen=True, extra="ignore")

    requests_per_minute: int = Field(
        default=12_000, ge=1, description="Requests of one person's key in a minute. Keys of workers and gateways are not counted."
    )
    failed_keys_per_minute: int = Field(
        default=60, ge=1, description="Wrong keys from one address in a minute; keys that were good lately go on being taken from there."
    )
    enrolments_per_minute: int = Field(default=20, ge=1, description="One-time tokens, good or not, from one address in a minute.")
    max_body_bytes: int = Field(
        default=DEFAULT_MAX_BODY_BYTES, ge=64 * 1024, description="Of a JSON body. Uploads have limits of their own."
    )
    trusted_proxies: str = Field(
        default="127.0.0.1",
        description="Addresses or networks, comma-separated, whose X-Forwarded-For is believed: the gateway's. * believes everyone.",
    )
