"""Checkpoints out of buckets: fetched by the supervisor before the child starts, so that the child holds no credentials.

Presigned addresses would be the other way. They would put a signature into the task file and give the child a reason to talk
to the network; and the supervisor can be stopped between two files by a cancel, a shutdown or a lost lease.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_blobs.errors import StoreRefused, UnknownBlob
from quantry_blobs.foreign import ForeignFolder
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.stores import ObjectStore
from quantry_core.errors import SourceRefused
from quantry_core.jobs import ImportSpec, InputRole, JobSpec
from quantry_core.sources import BucketSource, check_bucket, parse_source
from quantry_worker.disk import check_room
from quantry_worker.guard import Guard
from quantry_worker.protocol import ChildInput
from quantry_worker.settings import WorkerSettings


class ImportStoreSettings(BaseSettings):
    """The S3 server that imports read from, where it is another than the platform's own: ``QUANTRY_IMPORT_S3_ENDPOINT`` and so on."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_IMPORT_S3_", frozen=True, extra="ignore")

    endpoint: str | None = Field(default=None, description="host:port; the platform's own server where not given.")
    secure: bool = Field(default=True, description="Whether to speak TLS to it.")
    access_key: str = Field(default="", description="Access key id; one that may only read is enough.")
    secret_key: SecretStr = Field(default=SecretStr(""), description="Secret access key.")
    region: str = Field(default="us-east-1", description="Region of the buckets.")


class ImportBuckets:
    """The buckets that imports may read. ``store`` is called for when the first import comes."""

    def __init__(self, allowed: Collection[str], store: Callable[[], ObjectStore]) -> None:
        self._allowed = allowed
        self._store = store

    def fetch(self, source: BucketSource, directory: Path, guard: Guard) -> ChildInput:
        """Brings what lies under a prefix into ``directory`` and returns it as the import's source.

        Raises SourceRefused for a bucket that is not allowed or files no checkpoint may have, DiskFull, Unavailable or Stopped.
        """
        check_bucket(source.bucket, self._allowed)
        try:
            folder = ForeignFolder(self._store(), source.bucket, source.prefix)
            # What is fetched is copied once more by the child, which may not write what it reads.
            check_room(directory.parent.parent, 2 * sum(folder.sizes.values()))
            for path in folder.sizes:
                guard.check()
                folder.fetch(path, directory / path)
        except (StoreRefused, UnknownBlob) as error:
            raise SourceRefused(f"s3:{source.bucket}/{source.prefix} cannot be read: {error.detail}") from error
        return ChildInput(role=InputRole.SOURCE, id=source.bucket, ref=f"s3:{source.bucket}/{source.prefix}", path=directory)


def bucket_of(spec: JobSpec) -> BucketSource | None:
    """Returns the folder of a bucket that a job imports; None for every other job."""
    if not isinstance(spec, ImportSpec):
        return None
    source = parse_source(spec.source)
    return source if isinstance(source, BucketSource) else None


def import_buckets(settings: WorkerSettings, own: ObjectStore, platform: BlobSettings) -> ImportBuckets:
    """Returns the buckets that this worker's settings allow, on the server that they name, or on the platform's ``own``.

    Raises ValueError where they are the platform's own, which hold every project's bytes.
    """
    other = ImportStoreSettings()
    forbidden = {platform.vault_bucket, platform.staging_bucket} & set(settings.import_buckets) if other.endpoint is None else set()
    if forbidden:
        raise ValueError(f"QUANTRY_IMPORT_BUCKETS has {min(forbidden)!r}, where the platform keeps the bytes of all projects")

    def store() -> ObjectStore:
        if other.endpoint is None:
            return own
        return MinioStore(
            BlobSettings(
                endpoint=other.endpoint, secure=other.secure, access_key=other.access_key, secret_key=other.secret_key, region=other.region
            )
        )

    return ImportBuckets(settings.import_buckets, store)
