"""How to reach the S3 server. Read from the environment."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIN_PART_BYTES = 5 * 1024**2
"""S3's own lower limit for a part that is not the last."""


class BlobSettings(BaseSettings):
    """Settings of the object store: ``QUANTRY_S3_ENDPOINT`` and so on."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_S3_", frozen=True, extra="ignore")

    endpoint: str = Field(description="host:port of the S3 server.")
    secure: bool = Field(default=False, description="Whether to speak TLS to it.")
    access_key: str = Field(description="Access key id.")
    secret_key: SecretStr = Field(description="Secret access key.")
    region: str = Field(default="us-east-1", description="Region of both buckets.")
    vault_bucket: str = Field(default="quantry-vault", description="Content-addressed, written by the registry alone.")
    staging_bucket: str = Field(default="quantry-staging", description="Where workers put what an attempt made.")
    part_bytes: int = Field(default=16 * 1024**2, ge=MIN_PART_BYTES, description="Bytes of one part of a transfer.")
    num_parallel_parts: int = Field(
        default=4,
        ge=2,
        le=32,
        description="Parts in flight at once; a transfer holds about this many parts in memory, and one or two more.",
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, description="Seconds to wait for a connection.")
    read_timeout_s: float = Field(
        default=300.0, gt=0, description="Seconds without a byte from the server; a copy of many GB is silent for long."
    )
    num_retries: int = Field(default=3, ge=0, le=10, description="Further tries of one request when the server does not answer.")
