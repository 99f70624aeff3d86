"""Settings of backups, read from the environment. Those of the database and of the platform's own S3 server are the services'."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_blobs.settings import BlobSettings


class BackupSettings(BaseSettings):
    """``QUANTRY_BACKUP_PG_BIN`` and so on."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_BACKUP_", frozen=True, extra="ignore")

    pg_bin: Path | None = Field(default=None, description="Folder of pg_dump and pg_restore; else they are looked for on PATH.")
    parallel: int = Field(default=2, ge=1, le=16, description="Blobs that are copied or hashed at the same time.")


class BackupStoreSettings(BaseSettings):
    """The S3 server that backups go to, where it is another than the platform's own: ``QUANTRY_BACKUP_S3_ENDPOINT`` and so on."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_BACKUP_S3_", frozen=True, extra="ignore")

    endpoint: str | None = Field(default=None, description="host:port; the platform's own server where not given.")
    secure: bool = Field(default=True, description="Whether to speak TLS to it.")
    access_key: str = Field(default="", description="Access key id: may read and write the backups' bucket.")
    secret_key: SecretStr = Field(default=SecretStr(""), description="Secret access key.")
    region: str = Field(default="us-east-1", description="Region of the bucket.")

    def store(self) -> BlobSettings:
        """Returns how the server of the backups is reached: as these settings say, or as the platform's own."""
        if self.endpoint is None:
            return BlobSettings()
        return BlobSettings(
            endpoint=self.endpoint, secure=self.secure, access_key=self.access_key, secret_key=self.secret_key, region=self.region
        )
