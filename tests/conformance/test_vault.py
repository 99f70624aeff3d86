"""Staging and vault, on every server."""

from __future__ import annotations

import hashlib
import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quantry_blobs.errors import DigestMismatch
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import MIN_PART_BYTES
from quantry_blobs.vault import INCOMING_PREFIX, Staging, Vault, VaultCheckpoint
from quantry_core.errors import SealRefused, TooLarge
from quantry_core.versions import ManifestFile, blob_key, staging_key

JOB = "job_" + "0" * 32


@pytest.fixture
def staging(store: MinioStore, bucket: str) -> Staging:
    store.ensure_bucket(f"{bucket}-staging")
    return Staging(store, f"{bucket}-staging")


@pytest.fixture
def vault(store: MinioStore, bucket: str) -> Vault:
    return Vault(store, bucket)


def stage(staging: Staging, folder: Path, path: str, data: bytes, attempt: int = 1) -> ManifestFile:
    (folder / "staged").write_bytes(data)
    return staging.put(JOB, attempt, path, folder / "staged")


def seal(vault: Vault, staging: Staging, file: ManifestFile, attempt: int = 1) -> bool:
    return vault.seal(staging.bucket, staging_key(JOB, attempt, file.path), file)


def test_sealed_bytes_come_back(store: MinioStore, vault: Vault, staging: Staging, tmp_path: Path) -> None:
    data = b"weights" * MIN_PART_BYTES
    file = stage(staging, tmp_path, "model.safetensors", data)
    assert not vault.contains(file.sha256, file.size_bytes)
    assert seal(vault, staging, file)
    assert vault.contains(file.sha256, file.size_bytes)
    vault.fetch(file, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == data
    assert list(store.list(vault.bucket, "")) == [blob_key(hashlib.sha256(data).hexdigest())]


@pytest.mark.parametrize("num_bytes", [100, MIN_PART_BYTES, 2 * MIN_PART_BYTES + 12_345])
def test_what_is_too_large_for_a_copy_is_streamed(
    store: MinioStore, staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_bytes: int
) -> None:
    data = (b"weights of a large model " * (num_bytes // 25 + 1))[:num_bytes]
    file = stage(staging, tmp_path, "model.safetensors", data)
    monkeypatch.setattr(store, "copy", None)
    bucket = staging.bucket.removesuffix("-staging")
    vault = Vault(store, bucket, max_copy_bytes=num_bytes - 1)
    with pytest.raises(SealRefused, match="was declared"):
        seal(vault, staging, file.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(SealRefused, match="not in staging"):
        seal(vault, staging, file, attempt=2)
    assert list(store.list(bucket, "")) == []
    assert seal(vault, staging, file)
    assert not seal(vault, staging, file)
    vault.fetch(file, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == data
    assert list(store.list(bucket, "")) == [blob_key(file.sha256)]
    assert vault.put_stream(io.BytesIO(data + b"!")).size_bytes == num_bytes + 1


def test_the_same_bytes_are_sealed_once(store: MinioStore, vault: Vault, staging: Staging, tmp_path: Path) -> None:
    first = stage(staging, tmp_path, "a.json", b"{}")
    second = stage(staging, tmp_path, "b.json", b"{}")
    assert seal(vault, staging, first)
    assert not seal(vault, staging, second)


def test_seals_of_the_same_bytes_at_once(store: MinioStore, vault: Vault, staging: Staging, tmp_path: Path) -> None:
    for round_number in range(5):
        data = b"%d" % round_number * 100_000
        files = [stage(staging, tmp_path, f"{name}.json", data) for name in "abcdefgh"]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda file: seal(vault, staging, file), files))
        assert store.sha256(vault.bucket, blob_key(files[0].sha256)).sha256 == files[0].sha256
    assert list(store.list(vault.bucket, INCOMING_PREFIX)) == []


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"size_bytes": 3}], ids=["digest", "size"])
def test_what_was_not_declared_is_refused(
    store: MinioStore, vault: Vault, staging: Staging, tmp_path: Path, change: dict[str, object]
) -> None:
    declared = stage(staging, tmp_path, "config.json", b"{}").model_copy(update=change)
    with pytest.raises(SealRefused, match=r"config\.json was declared"):
        seal(vault, staging, declared)
    assert list(store.list(vault.bucket, "")) == []


def test_what_was_not_staged_is_refused(store: MinioStore, vault: Vault, staging: Staging) -> None:
    with pytest.raises(SealRefused, match="not in staging"):
        seal(vault, staging, ManifestFile(path="config.json", size_bytes=2, sha256="1" * 64))
    assert list(store.list(vault.bucket, "")) == []


def test_a_damaged_blob_is_noticed_and_left_alone(store: MinioStore, vault: Vault, staging: Staging, tmp_path: Path) -> None:
    file = stage(staging, tmp_path, "config.json", b"{}")
    store.put_stream(vault.bucket, blob_key(file.sha256), io.BytesIO(b"damaged"))
    with pytest.raises(DigestMismatch, match="damaged"):
        seal(vault, staging, file)
    assert store.read(vault.bucket, blob_key(file.sha256), 0, 10) == b"damaged"


def test_a_swapped_blob_is_not_fetched(store: MinioStore, vault: Vault, staging: Staging, tmp_path: Path) -> None:
    file = stage(staging, tmp_path, "config.json", b"{}")
    store.put_stream(vault.bucket, blob_key(file.sha256), io.BytesIO(b"[]"))
    with pytest.raises(DigestMismatch):
        vault.fetch(file, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_a_stream_goes_in_under_its_digest(store: MinioStore, vault: Vault) -> None:
    stored = vault.put_stream(io.BytesIO(b"some text"))
    assert list(store.list(vault.bucket, "")) == [blob_key(hashlib.sha256(b"some text").hexdigest())]
    assert vault.put_stream(io.BytesIO(b"some text")) == stored
    with pytest.raises(TooLarge):
        vault.put_stream(io.BytesIO(b"some more text"), max_bytes=10)
    assert len(list(store.list(vault.bucket, ""))) == 1


def test_a_version_is_read_from_the_vault(vault: Vault, staging: Staging, tmp_path: Path) -> None:
    files = [stage(staging, tmp_path, "config.json", b'{"a": 1}'), stage(staging, tmp_path, "empty.txt", b"")]
    for file in files:
        seal(vault, staging, file)
    checkpoint = VaultCheckpoint(vault, files)
    assert dict(checkpoint.files()) == {"config.json": 8, "empty.txt": 0}
    assert checkpoint.read("config.json", 1, 3) == b'"a"'
    assert checkpoint.read("config.json", 6, 100) == b"1}"
    assert checkpoint.read("empty.txt", 0, 10) == b""


def test_staging_is_removed_one_attempt_at_a_time(store: MinioStore, staging: Staging, tmp_path: Path) -> None:
    for attempt in (1, 2, 12):
        stage(staging, tmp_path, "config.json", b"{}", attempt)
        stage(staging, tmp_path, "sub/file.json", b"{}", attempt)
    store.put_stream(staging.bucket, "stray", io.BytesIO(b"not ours"))
    assert staging.attempts() == {(JOB, 1), (JOB, 2), (JOB, 12)}
    assert staging.remove_attempt(JOB, 1) == 2
    assert staging.attempts() == {(JOB, 2), (JOB, 12)}


def test_only_old_leftovers_are_swept(store: MinioStore, vault: Vault) -> None:
    store.put_stream(vault.bucket, f"{INCOMING_PREFIX}018bcfe5680070008000000000000000", io.BytesIO(b"begun in 2023, there since now"))
    store.put_stream(vault.bucket, f"{INCOMING_PREFIX}not-a-uuid", io.BytesIO(b"somebody's"))
    vault.put_stream(io.BytesIO(b"kept"))
    now_s = time.time()
    assert vault.sweep_incoming(7200, now_unix_s=now_s + 7000) == 0
    assert vault.sweep_incoming(7200, now_unix_s=now_s + 7400) == 1
    assert vault.sweep_incoming(7200, now_unix_s=now_s + 7400) == 0
    assert list(store.list(vault.bucket, INCOMING_PREFIX)) == [f"{INCOMING_PREFIX}not-a-uuid"]
