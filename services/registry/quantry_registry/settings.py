"""Settings of the registry, read from the environment."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_store.capture_cipher import CaptureCipher


class RegistrySettings(BaseSettings):
    """``QUANTRY_REGISTRY_PORT`` and so on."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    registry_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    registry_port: int = Field(ge=1, le=65535, description="TCP port to listen on.")
    max_dataset_bytes: int = Field(default=1024**3, ge=1, description="The longest text a dataset may have, in bytes.")
    capture_keys: SecretStr | None = Field(
        default=None, description="Fernet keys, comma-separated, that open captured prompts. The same as the api's."
    )
    max_upload_file_bytes: int = Field(default=64 * 1024**3, ge=1, description="The longest file of an upload, in bytes.")
    max_uploads_at_once: int = Field(
        default=16, ge=1, description="Files that are sent at the same time; more are asked to come later. Each holds some parts in memory."
    )
    upload_idle_s: float = Field(default=60.0, gt=0, description="Seconds; a file of which nothing comes for so long is given up.")
    upload_lifetime_s: float = Field(default=24 * 3600.0, gt=0, description="Seconds until an upload that was not imported is removed.")
    registry_sweep_interval_s: float = Field(default=60.0, gt=0, description="Seconds between two sweeps of the buckets.")
    registry_seed_interval_s: float = Field(default=2.0, gt=0, description="Seconds between looks for projects without built-in datasets.")
    incoming_max_age_s: float = Field(
        default=24 * 3600.0,
        gt=0,
        description="Seconds; what lies in the vault's incoming for longer was left by a process that died. Longer than any upload takes: "
        "some servers date an object by the beginning of its upload.",
    )
    deleted_retention_s: float = Field(
        default=30 * 24 * 3600.0,
        ge=0,
        description="Seconds for which a deleted version or dataset can be restored; a master at least 7 days.",
    )
    collect_age_s: float = Field(
        default=24 * 3600.0, ge=0, description="Seconds; younger bytes are not collected though nothing refers to them."
    )
    collect_min_age_s: float = Field(
        default=3600.0, ge=0, description="The shortest age that a collection may be asked for: longer than from a seal to its finish."
    )
    checkpoint_min_age_s: float = Field(
        default=900.0,
        ge=0,
        description="Seconds; of what a training job has let go of, younger bytes are not removed: longer than from the seal of a "
        "checkpoint to its report.",
    )
    collect_interval_s: float | None = Field(default=None, gt=0, description="Seconds between two collections; only when asked where None.")
    vault_versioning: bool = Field(
        default=True, description="The registry looks whether the vault's bucket can keep older versions, and has it keep them."
    )
    vault_retention_s: float = Field(
        default=7 * 24 * 3600.0, gt=0, description="Seconds for which a blob cannot be removed from a bucket made with object lock."
    )
    verify_parallel: int = Field(default=2, ge=1, le=16, description="Blobs that a verification hashes at the same time.")
    vault_poll_s: float = Field(default=2.0, gt=0, description="Seconds between two looks for runs over the vault that were asked for.")
    vault_claim_s: float = Field(default=120.0, gt=0, description="Seconds after which a run whose registry is silent is taken over.")
    max_checkpoint_bytes: int = Field(default=256 * 1024**3, ge=1, description="Bytes of one checkpoint of a training job.")
    max_artifact_bytes: int = Field(default=4 * 1024**3, ge=1, description="Bytes of all files that one job may leave beside its version.")

    @field_validator("capture_keys")
    @classmethod
    def _check_capture_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            CaptureCipher.of(keys)
        return keys
