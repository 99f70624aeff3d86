"""``python -m quantry_blobs.minio_setup``: has a MinIO server know Quantry's buckets, its three keys and what each may do.

Safe to repeat: what is there already is set again to what it should be. The vault's bucket is made with object lock, which
cannot be turned on later, and so keeps versions; those that are not current any more go after a while.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from minio import Minio, MinioAdmin
from minio.commonconfig import ENABLED, Filter
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, MinioException, S3Error
from minio.lifecycleconfig import LifecycleConfig, NoncurrentVersionExpiration, Rule
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from quantry_core.bucket_policies import KeyHolder, bucket_policy
from quantry_core.secret_files import take_secret_files

PROGRAM = "python -m quantry_blobs.minio_setup"
TIMEOUT_S = 30.0
NUM_RETRIES = 5
EXIT_SETTINGS, EXIT_REFUSED = 78, 1
_OWNED = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


class MinioSetupSettings(BaseSettings):
    """``QUANTRY_MINIO_ENDPOINT`` and so on. The names of keys and buckets are those that the services are given."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_MINIO_", frozen=True, extra="ignore")

    endpoint: str = Field(description="host:port of the server.")
    secure: bool = Field(default=False, description="Whether to speak TLS to it.")
    region: str = Field(default="us-east-1", description="Region of the buckets.")
    root_user: str = Field(min_length=3, description="MINIO_ROOT_USER of the server.")
    root_password: SecretStr = Field(min_length=8, description="MINIO_ROOT_PASSWORD of the server.")
    vault_bucket: str = Field(default="quantry-vault", description="Content-addressed, written by the registry alone.")
    staging_bucket: str = Field(default="quantry-staging", description="Where workers put what an attempt made.")
    registry_access_key: str = Field(default="quantry-registry", min_length=3, description="The registry's access key.")
    registry_secret_key: SecretStr = Field(min_length=8, description="Its secret.")
    worker_access_key: str = Field(default="quantry-worker", min_length=3, description="The workers' access key.")
    worker_secret_key: SecretStr = Field(min_length=8, description="Its secret.")
    reader_access_key: str = Field(default="quantry-reader", min_length=3, description="The access key of api and deploy.")
    reader_secret_key: SecretStr = Field(min_length=8, description="Its secret.")
    noncurrent_days: int = Field(default=30, ge=1, description="Days after which what was removed from the vault is gone for good.")

    @property
    def keys(self) -> Mapping[KeyHolder, tuple[str, SecretStr]]:
        """Access key and secret of each holder."""
        return {
            KeyHolder.REGISTRY: (self.registry_access_key, self.registry_secret_key),
            KeyHolder.WORKER: (self.worker_access_key, self.worker_secret_key),
            KeyHolder.READER: (self.reader_access_key, self.reader_secret_key),
        }


def set_up(settings: MinioSetupSettings) -> list[str]:
    """Returns what was seen to, a line each. Raises minio-py's or urllib3's errors where the server refuses or is away."""
    credentials = StaticProvider(settings.root_user, settings.root_password.get_secret_value())
    pool = PoolManager(timeout=Timeout(connect=TIMEOUT_S, read=TIMEOUT_S), retries=Retry(NUM_RETRIES, backoff_factor=0.2))
    client = Minio(settings.endpoint, secure=settings.secure, region=settings.region, credentials=credentials, http_client=pool)
    admin = MinioAdmin(
        endpoint=settings.endpoint, secure=settings.secure, region=settings.region, credentials=credentials, http_client=pool
    )
    return [*_make_buckets(client, settings), *_make_keys(admin, settings)]


def _make_buckets(client: Minio, settings: MinioSetupSettings) -> list[str]:
    lines = []
    for bucket, has_lock in ((settings.vault_bucket, True), (settings.staging_bucket, False)):
        is_there = client.bucket_exists(bucket)
        if not is_there:
            try:
                client.make_bucket(bucket, object_lock=has_lock)
            except S3Error as error:
                if error.code not in _OWNED:
                    raise
        lines.append(f"bucket {bucket}: {'was there' if is_there else 'made'}")
    expiry = NoncurrentVersionExpiration(noncurrent_days=settings.noncurrent_days)
    rule = Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id="noncurrent", noncurrent_version_expiration=expiry)
    client.set_bucket_lifecycle(settings.vault_bucket, LifecycleConfig([rule]))
    return lines


def _make_keys(admin: MinioAdmin, settings: MinioSetupSettings) -> list[str]:
    lines = []
    for holder, (access_key, secret_key) in settings.keys.items():
        policy = f"quantry-{holder}"
        admin.policy_add(policy, policy=bucket_policy(holder, vault=settings.vault_bucket, staging=settings.staging_bucket))
        admin.user_add(access_key, secret_key.get_secret_value())
        admin.policy_set(policy, user=access_key)
        lines.append(f"key {access_key}: may do what the policy {policy} says")
    return lines


def main() -> int:
    """Reads the environment and sets the server up; returns the exit status."""
    take_secret_files(PROGRAM)
    try:
        settings = MinioSetupSettings()
    except ValidationError as error:
        problems = "; ".join(f"QUANTRY_MINIO_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        sys.stderr.write(f"{PROGRAM}: the settings are not valid: {problems}\n")
        return EXIT_SETTINGS
    try:
        lines = set_up(settings)
    except (MinioException, MinioAdminException, HTTPError, ValueError) as error:
        sys.stderr.write(f"{PROGRAM}: {settings.endpoint} cannot be set up: {_words(error)}\n")
        return EXIT_REFUSED
    sys.stderr.writelines(f"{line}\n" for line in lines)
    return 0


def _words(error: Exception) -> str:
    return f"{error.code}: {error.message}" if isinstance(error, S3Error) else str(error)


if __name__ == "__main__":
    sys.exit(main())
