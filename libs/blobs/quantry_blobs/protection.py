"""Whether a bucket keeps what is overwritten and removed. Found out by trying it: servers say yes and do nothing.

rclone's server refuses to keep versions, but answers a question for the object lock with a list of objects, which minio-py
reads as a lock without a rule, and takes a request for retention for a PUT of the object. So no request about retention may
be sent for an object that matters until it did what it should to the probe.
Versions: https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html; object lock: .../userguide/object-lock.html
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.commonconfig import ENABLED, GOVERNANCE
from minio.error import S3Error
from minio.retention import Retention
from minio.versioningconfig import VersioningConfig

PROBE_KEY = "probes/protection"
PROBE_RETENTION = timedelta(minutes=1)
NUM_VERSIONS = 2
"""Of the probe: one that lies there, and one that was overwritten by it."""

_LOCK_HEADER = "x-amz-object-lock-mode"
_NOT_THERE = (S3Error, ParseError, ValueError)
"""What minio-py raises for a refusal, and for an answer to another question."""


@dataclass(frozen=True)
class Protection:
    """What a bucket was found to do."""

    versioning: bool
    """What is overwritten or removed is kept as an older version."""
    object_lock: bool
    """A version under retention is removed by nobody without a right of its own. Only where ``versioning``."""


UNPROTECTED = Protection(versioning=False, object_lock=False)


def find_protection(client: Minio, bucket: str) -> Protection:
    """Turns versioning on where the server has it and the key may, and returns what the bucket then really does.

    On a bucket that keeps versions the probe stays, so that looking again writes nothing new.
    """
    if not _turn_versioning_on(client, bucket):
        return UNPROTECTED
    for _ in range(NUM_VERSIONS - len(_probes(client, bucket))):
        client.put_object(bucket, PROBE_KEY, io.BytesIO(b"probe"), len(b"probe"))
    versions = _probes(client, bucket)
    if len(versions) < NUM_VERSIONS:
        client.remove_object(bucket, PROBE_KEY)
        return UNPROTECTED
    return Protection(versioning=True, object_lock=_locks(client, bucket, versions[-1]))


def retain(client: Minio, bucket: str, key: str, until: datetime) -> None:
    """Keeps the newest version of an object from being removed until then. Only where the bucket was found to have the lock."""
    client.set_object_retention(bucket, key, Retention(GOVERNANCE, until))


def _turn_versioning_on(client: Minio, bucket: str) -> bool:
    try:
        if client.get_bucket_versioning(bucket).status != ENABLED:
            client.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
        return client.get_bucket_versioning(bucket).status == ENABLED
    except _NOT_THERE:
        return False


def _probes(client: Minio, bucket: str) -> list[str]:
    """Returns the ids of the probe's versions, newest first."""
    try:
        found = [
            item.version_id
            for item in client.list_objects(bucket, prefix=PROBE_KEY, include_version=True)
            if item.object_name == PROBE_KEY and not item.is_delete_marker
        ]
    except _NOT_THERE:
        return []
    return [version_id for version_id in found if version_id]


def _locks(client: Minio, bucket: str, version_id: str) -> bool:
    """Tells whether a version of the probe that is put under retention can then not be removed."""
    until = (datetime.now(UTC) + PROBE_RETENTION).replace(microsecond=0)
    try:
        client.get_object_lock_config(bucket)
        client.set_object_retention(bucket, PROBE_KEY, Retention(GOVERNANCE, until), version_id)
        # Not asked for as retention: moto's server has no answer to that.
        metadata = client.stat_object(bucket, PROBE_KEY, version_id=version_id).metadata
    except _NOT_THERE:
        return False
    if metadata is None or metadata.get(_LOCK_HEADER) != GOVERNANCE:
        return False
    try:
        client.remove_object(bucket, PROBE_KEY, version_id)
    except S3Error:
        return True
    return False
