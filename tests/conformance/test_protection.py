"""What each server's buckets keep, found out by trying it. rclone's keeps nothing; moto's keep versions, and lock what was made so."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import datetime

import pytest
from minio.error import S3Error
from minio.versioningconfig import VersioningConfig

from quantry_blobs.protection import PROBE_KEY, UNPROTECTED, Protection
from quantry_blobs.s3 import MinioStore
from quantry_blobs.vault import Vault
from quantry_core.versions import blob_key

RETENTION_S = 3600.0
on_rclone = pytest.mark.parametrize("s3_settings", ["rclone"], indirect=True)
on_moto = pytest.mark.parametrize("s3_settings", ["moto"], indirect=True)


def versions(store: MinioStore, bucket: str, prefix: str = "") -> list[tuple[str, str]]:
    """Returns key and id of every version that is no delete marker."""
    found = store._client.list_objects(bucket, prefix=prefix, recursive=True, include_version=True)
    return [(str(item.object_name), str(item.version_id)) for item in found if not item.is_delete_marker]


def retained_until(store: MinioStore, bucket: str, key: str) -> datetime:
    metadata = store._client.stat_object(bucket, key).metadata
    assert metadata is not None
    return datetime.fromisoformat(metadata["x-amz-object-lock-retain-until-date"])


@pytest.fixture
def locked(store: MinioStore, bucket: str) -> str:
    """A bucket that was made with object lock."""
    store._client.make_bucket(f"{bucket}-locked", object_lock=True)
    return f"{bucket}-locked"


@on_rclone
def test_a_server_without_either_is_found_out(store: MinioStore, bucket: str) -> None:
    # It reads as if it had a lock: only trying tells.
    assert store._client.get_object_lock_config(bucket) is not None
    vault = Vault(store, bucket)
    vault.protect(RETENTION_S)
    assert (vault.protection, vault.retention_s) == (UNPROTECTED, None)
    stored = vault.put_stream(io.BytesIO(b"bytes"))
    assert store.read(bucket, blob_key(stored.sha256), 0, 10) == b"bytes"
    assert list(store.list(bucket, "")) == [blob_key(stored.sha256)]


class _Liar:
    """A client whose server says that it keeps versions, and does not."""

    def __init__(self, store: MinioStore) -> None:
        self._client = store._client

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name == "get_bucket_versioning":
            return lambda _bucket: VersioningConfig("Enabled")
        method: Callable[..., object] = getattr(self._client, name)
        return method


@on_rclone
def test_a_server_that_only_says_so_is_found_out(store: MinioStore, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_client", _Liar(store))
    assert store.protect(bucket) == UNPROTECTED
    assert list(store.list(bucket, "")) == []


@on_moto
def test_versioning_is_turned_on(store: MinioStore, bucket: str) -> None:
    vault = Vault(store, bucket)
    vault.protect(RETENTION_S)
    assert (vault.protection, vault.retention_s) == (Protection(versioning=True, object_lock=False), None)
    stored = vault.put_stream(io.BytesIO(b"bytes"))
    assert vault.remove(stored.sha256, begin_by_s=time.monotonic() + 10)
    assert not vault.contains(stored.sha256, stored.size_bytes)
    [(key, version_id)] = versions(store, bucket, "sha256/")
    assert store._client.get_object(bucket, key, version_id=version_id).data == b"bytes"


@on_moto
def test_looking_again_writes_nothing(store: MinioStore, bucket: str) -> None:
    store.protect(bucket)
    before = versions(store, bucket)
    assert [key for key, _ in before] == [PROBE_KEY, PROBE_KEY]
    assert store.protect(bucket) == Protection(versioning=True, object_lock=False)
    assert versions(store, bucket) == before


@on_moto
def test_a_bucket_with_object_lock_keeps_every_blob(store: MinioStore, locked: str) -> None:
    vault = Vault(store, locked)
    vault.protect(RETENTION_S)
    vault.protect(RETENTION_S)
    assert (vault.protection, vault.retention_s) == (Protection(versioning=True, object_lock=True), RETENTION_S)
    stored = vault.put_stream(io.BytesIO(b"bytes"))
    [(key, version_id)] = versions(store, locked, "sha256/")
    kept = retained_until(store, locked, key)
    with pytest.raises(S3Error, match="AccessDenied"):
        store._client.remove_object(locked, key, version_id)
    # Taken in again, it is kept for longer.
    vault.retention_s = 2 * RETENTION_S
    assert vault.put_stream(io.BytesIO(b"bytes")) == stored
    assert (retained_until(store, locked, key) - kept).total_seconds() == pytest.approx(RETENTION_S, abs=60)
