"""The vault against a store that fails where it is told to. What a real server does is in the integration tests."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from quantry_blobs.errors import DigestMismatch, StoreUnavailable, UnknownBlob
from quantry_blobs.stores import ObjectStore, Stored
from quantry_blobs.vault import Staging, Vault
from quantry_core.errors import SealRefused
from quantry_core.versions import ManifestFile, blob_key, staging_key

STAGING = "staging"
VAULT = "vault"
DATA = b"some weights"
FILE = ManifestFile(path="model.safetensors", size_bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
KEY = staging_key("job_1", 1, FILE.path)


class DictStore:
    """Objects in a dictionary. The step named in ``fails_at`` raises StoreUnavailable."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.fails_at = ""
        self.steps: list[str] = []

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.fails_at:
            raise StoreUnavailable("away")

    def ensure_bucket(self, bucket: str) -> None:
        self._step(f"ensure_bucket {bucket}")

    def put_file(self, bucket: str, key: str, path: Path) -> Stored:
        return self.put_stream(bucket, key, io.BytesIO(path.read_bytes()))

    def put_stream(self, bucket: str, key: str, stream: BinaryIO, max_bytes: int | None = None) -> Stored:
        self._step(f"put {bucket}")
        self.objects[bucket, key] = stream.read()
        return self.sha256(bucket, key)

    def get_file(self, bucket: str, key: str, path: Path, *, expected: Stored) -> None:
        path.write_bytes(self.objects[bucket, key])

    def open_range(self, bucket: str, key: str, start: int, length: int) -> Generator[bytes, None, None]:
        yield self.read(bucket, key, start, length)

    def read(self, bucket: str, key: str, start: int, length: int) -> bytes:
        return self.objects[bucket, key][start : start + length]

    def stat(self, bucket: str, key: str) -> int | None:
        found = self.objects.get((bucket, key))
        return None if found is None else len(found)

    def copy(self, bucket: str, key: str, to_bucket: str, to_key: str) -> None:
        self._step(f"copy {bucket} {to_key.partition('/')[0]}")
        if (bucket, key) not in self.objects:
            raise UnknownBlob(key)
        self.objects[to_bucket, to_key] = self.objects[bucket, key]

    def delete(self, bucket: str, key: str) -> None:
        self._step(f"delete {bucket}")
        self.objects.pop((bucket, key), None)

    def list(self, bucket: str, prefix: str) -> Iterator[str]:
        return iter(sorted(key for of, key in self.objects if of == bucket and key.startswith(prefix)))

    def sha256(self, bucket: str, key: str) -> Stored:
        data = self.objects[bucket, key]
        return Stored(len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def store() -> DictStore:
    made = DictStore()
    made.objects[STAGING, KEY] = DATA
    return made


@pytest.fixture
def vault(store: DictStore) -> Vault:
    checked: ObjectStore = store
    return Vault(checked, VAULT)


def test_a_seal_copies_before_it_hashes(vault: Vault, store: DictStore) -> None:
    assert vault.seal(STAGING, KEY, FILE)
    assert store.steps == ["copy staging incoming", "copy vault sha256", "delete vault"]
    assert list(store.list(VAULT, "")) == [blob_key(FILE.sha256)]


def test_bytes_swapped_in_staging_after_the_copy_do_not_matter(vault: Vault, store: DictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = store.copy

    def copy_then_swap(bucket: str, key: str, to_bucket: str, to_key: str) -> None:
        copy(bucket, key, to_bucket, to_key)
        store.objects[STAGING, KEY] = b"evil weights"

    monkeypatch.setattr(store, "copy", copy_then_swap)
    vault.seal(STAGING, KEY, FILE)
    assert store.objects[VAULT, blob_key(FILE.sha256)] == DATA


def test_bytes_the_vault_holds_are_not_copied_again(vault: Vault, store: DictStore) -> None:
    store.objects[VAULT, blob_key(FILE.sha256)] = DATA
    assert not vault.seal(STAGING, KEY, FILE)
    assert store.steps == []


@pytest.mark.parametrize("step", ["copy staging incoming", "copy vault sha256"])
def test_a_seal_that_is_broken_off_is_done_again(vault: Vault, store: DictStore, step: str) -> None:
    store.fails_at = step
    with pytest.raises(StoreUnavailable):
        vault.seal(STAGING, KEY, FILE)
    assert list(store.list(VAULT, "")) == []
    store.fails_at = ""
    assert vault.seal(STAGING, KEY, FILE)


def test_a_failed_clean_up_does_not_undo_the_seal(vault: Vault, store: DictStore) -> None:
    store.fails_at = "delete vault"
    assert vault.seal(STAGING, KEY, FILE)
    assert store.objects[VAULT, blob_key(FILE.sha256)] == DATA


def test_a_failed_clean_up_does_not_hide_the_refusal(vault: Vault, store: DictStore) -> None:
    store.fails_at = "delete vault"
    with pytest.raises(SealRefused):
        vault.seal(STAGING, KEY, FILE.model_copy(update={"sha256": "0" * 64}))


def test_a_key_is_never_written_over(vault: Vault, store: DictStore) -> None:
    store.objects[VAULT, blob_key(FILE.sha256)] = b"damaged"
    with pytest.raises(DigestMismatch, match="damaged"):
        vault.put_stream(io.BytesIO(DATA))
    assert store.objects[VAULT, blob_key(FILE.sha256)] == b"damaged"


def test_what_is_too_large_for_a_copy_is_streamed(store: DictStore) -> None:
    vault = Vault(store, VAULT, max_copy_bytes=len(DATA) - 1)
    assert vault.seal(STAGING, KEY, FILE)
    assert store.steps == ["put vault", "put vault", "delete vault"]
    assert {key: store.objects[VAULT, key] for key in store.list(VAULT, "")} == {blob_key(FILE.sha256): DATA}


def test_what_is_just_small_enough_is_copied(store: DictStore) -> None:
    assert Vault(store, VAULT, max_copy_bytes=len(DATA)).seal(STAGING, KEY, FILE)
    assert "put vault" not in store.steps


def test_bytes_that_changed_on_the_way_to_their_key_get_none(store: DictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault(store, VAULT, max_copy_bytes=1)
    opened = store.open_range

    def damage(bucket: str, key: str, start: int, length: int) -> Generator[bytes, None, None]:
        if bucket == VAULT:
            yield b"x" * length
        else:
            yield from opened(bucket, key, start, length)

    monkeypatch.setattr(store, "open_range", damage)
    with pytest.raises(DigestMismatch, match="not the 12 that were hashed"):
        vault.seal(STAGING, KEY, FILE)
    assert list(store.list(VAULT, "")) == []


def test_staging_tells_attempts_apart(store: DictStore, tmp_path: Path) -> None:
    staging = Staging(store, STAGING)
    (tmp_path / "file").write_bytes(b"{}")
    file = staging.put("job_1", 10, "sub/config.json", tmp_path / "file")
    assert file == ManifestFile(path="sub/config.json", size_bytes=2, sha256=hashlib.sha256(b"{}").hexdigest())
    for stray in ["job_1", "job_1/file", "job_1/x/file", "job_1/¹/file"]:
        store.objects[STAGING, stray] = b""
    assert staging.attempts() == {("job_1", 1), ("job_1", 10)}
    assert staging.remove_attempt("job_1", 1) == 1
    assert staging.attempts() == {("job_1", 10)}
