"""The vault against a store that fails where it is told to. What a real server does is in the integration tests."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from quantry_blobs.errors import DigestMismatch, OtherBytes, StoreUnavailable, UnknownBlob
from quantry_blobs.protection import UNPROTECTED, Protection
from quantry_blobs.stores import Entry, ObjectStore, Stored
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
        self.protection = UNPROTECTED
        self.modified_unix_s = 0.0
        """Of every object."""

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

    def copy_checked(self, bucket: str, key: str, to_bucket: str, to_key: str, expected: Stored) -> None:
        if (bucket, key) not in self.objects:
            raise UnknownBlob(key)
        data = b"".join(self.open_range(bucket, key, 0, len(self.objects[bucket, key])))
        if (found := Stored(len(data), hashlib.sha256(data).hexdigest())) != expected:
            raise OtherBytes(found, expected)
        self._step(f"put {to_bucket}")
        self.objects[to_bucket, to_key] = data

    def delete(self, bucket: str, key: str) -> None:
        self._step(f"delete {bucket}")
        self.objects.pop((bucket, key), None)

    def delete_once(self, bucket: str, key: str) -> None:
        self._step(f"delete once {bucket}")
        self.objects.pop((bucket, key), None)

    def list(self, bucket: str, prefix: str) -> Iterator[str]:
        return iter(sorted(key for of, key in self.objects if of == bucket and key.startswith(prefix)))

    def entries(self, bucket: str, prefix: str) -> Iterator[Entry]:
        return (Entry(key, len(self.objects[bucket, key]), self.modified_unix_s) for key in self.list(bucket, prefix))

    def sha256(self, bucket: str, key: str) -> Stored:
        if (bucket, key) not in self.objects:
            raise UnknownBlob(key)
        data = self.objects[bucket, key]
        return Stored(len(data), hashlib.sha256(data).hexdigest())

    def protect(self, bucket: str) -> Protection:
        return self.protection

    def retain(self, bucket: str, key: str, seconds: float) -> None:
        assert (bucket, key) in self.objects
        self._step(f"retain {bucket} {key.partition('/')[0]} {seconds}")


@pytest.fixture
def store() -> DictStore:
    made = DictStore()
    made.objects[STAGING, KEY] = DATA
    return made


@pytest.fixture
def vault(store: DictStore) -> Vault:
    checked: ObjectStore = store
    return Vault(checked, VAULT)


def test_a_seal_is_one_pass_from_staging_to_the_key(vault: Vault, store: DictStore) -> None:
    assert vault.seal(STAGING, KEY, FILE)
    assert store.steps == ["put vault"]
    assert list(store.list(VAULT, "")) == [blob_key(FILE.sha256)]


def test_a_blob_is_retained_once_it_lies_there_and_again_whenever_it_comes(vault: Vault, store: DictStore) -> None:
    store.protection = Protection(versioning=True, object_lock=True)
    vault.protect(60.0)
    assert vault.seal(STAGING, KEY, FILE)
    assert not vault.seal(STAGING, KEY, FILE)
    assert store.steps == ["put vault", "retain vault sha256 60.0", "retain vault sha256 60.0"]
    store.steps.clear()
    vault.put_stream(io.BytesIO(b"others"))
    vault.put_stream(io.BytesIO(b"others"))
    assert [step for step in store.steps if "retain" in step] == ["retain vault sha256 60.0"] * 2


def test_what_may_be_removed_again_is_retained_only_once_it_is_to_stay(vault: Vault, store: DictStore) -> None:
    store.protection = Protection(versioning=True, object_lock=True)
    vault.protect(60.0)
    assert vault.seal_removable(STAGING, KEY, FILE)
    assert not vault.seal_removable(STAGING, KEY, FILE)
    assert store.steps == ["put vault"]
    assert not vault.seal(STAGING, KEY, FILE)
    assert store.steps == ["put vault", "retain vault sha256 60.0"]


def test_a_bucket_without_lock_is_asked_for_no_retention(vault: Vault, store: DictStore) -> None:
    store.protection = Protection(versioning=True, object_lock=False)
    vault.protect(60.0)
    vault.seal(STAGING, KEY, FILE)
    assert store.steps == ["put vault"]


def test_bytes_swapped_in_staging_while_they_are_read_get_no_key(vault: Vault, store: DictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(bucket: str, key: str, start: int, length: int) -> Generator[bytes, None, None]:
        yield b"evil weights"[: length // 2]
        yield DATA[length // 2 :]

    monkeypatch.setattr(store, "open_range", swapped)
    with pytest.raises(SealRefused, match="are staged"):
        vault.seal(STAGING, KEY, FILE)
    assert list(store.list(VAULT, "")) == []


def test_bytes_the_vault_holds_are_not_copied_again(vault: Vault, store: DictStore) -> None:
    store.objects[VAULT, blob_key(FILE.sha256)] = DATA
    assert not vault.seal(STAGING, KEY, FILE)
    assert store.steps == []


def test_a_seal_that_is_broken_off_is_done_again(vault: Vault, store: DictStore) -> None:
    store.fails_at = "put vault"
    with pytest.raises(StoreUnavailable):
        vault.seal(STAGING, KEY, FILE)
    assert list(store.list(VAULT, "")) == []
    store.fails_at = ""
    assert vault.seal(STAGING, KEY, FILE)


def test_a_failed_clean_up_does_not_undo_what_was_taken_in(vault: Vault, store: DictStore) -> None:
    store.fails_at = "delete vault"
    assert vault.put_stream(io.BytesIO(DATA)).sha256 == FILE.sha256
    assert store.objects[VAULT, blob_key(FILE.sha256)] == DATA


@pytest.mark.parametrize("lie", [{"sha256": "0" * 64}, {"size_bytes": 7}])
def test_what_was_declared_wrongly_gets_no_key(vault: Vault, store: DictStore, lie: dict[str, Any]) -> None:
    with pytest.raises(SealRefused, match=f"but 12 bytes with {FILE.sha256} are staged"):
        vault.seal(STAGING, KEY, FILE.model_copy(update=lie))
    assert list(store.list(VAULT, "")) == []


def test_a_key_is_never_written_over(vault: Vault, store: DictStore) -> None:
    store.objects[VAULT, blob_key(FILE.sha256)] = b"damaged"
    with pytest.raises(DigestMismatch, match="damaged"):
        vault.put_stream(io.BytesIO(DATA))
    assert store.objects[VAULT, blob_key(FILE.sha256)] == b"damaged"


def test_what_is_too_large_for_a_copy_is_streamed(store: DictStore) -> None:
    vault = Vault(store, VAULT, max_copy_bytes=len(DATA) - 1)
    assert vault.put_stream(io.BytesIO(DATA)).sha256 == FILE.sha256
    assert store.steps == ["put vault", "put vault", "delete vault"]
    assert {key: store.objects[VAULT, key] for key in store.list(VAULT, "")} == {blob_key(FILE.sha256): DATA}


def test_what_is_just_small_enough_is_copied(store: DictStore) -> None:
    Vault(store, VAULT, max_copy_bytes=len(DATA)).put_stream(io.BytesIO(DATA))
    assert store.steps == ["put vault", "copy vault sha256", "delete vault"]


def test_bytes_that_changed_on_the_way_to_their_key_get_none(store: DictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(bucket: str, key: str, start: int, length: int) -> Generator[bytes, None, None]:
        yield b"x" * length

    monkeypatch.setattr(store, "open_range", damaged)
    with pytest.raises(DigestMismatch, match="not the 12 with"):
        Vault(store, VAULT, max_copy_bytes=1).put_stream(io.BytesIO(DATA))
    assert list(store.list(VAULT, "")) == []


def test_a_damaged_blob_is_found_and_put_aside(vault: Vault, store: DictStore) -> None:
    vault.seal(STAGING, KEY, FILE)
    assert vault.check(FILE.sha256, FILE.size_bytes) is None
    store.objects[VAULT, blob_key(FILE.sha256)] = b"some Weights"
    assert "12 bytes with SHA-256" in (vault.check(FILE.sha256, FILE.size_bytes) or "")
    found, kept = vault.set_aside(FILE.sha256, FILE.size_bytes)
    assert found is not None
    assert "12 bytes with SHA-256" in found
    assert kept is not None
    assert kept.startswith(f"damaged/{FILE.sha256}/")
    assert list(store.list(VAULT, "")) == [kept]
    assert vault.check(FILE.sha256, FILE.size_bytes) == "missing"
    assert vault.set_aside(FILE.sha256, FILE.size_bytes) == ("missing", None)
    # The key is free for the right bytes.
    assert vault.seal(STAGING, KEY, FILE)
    assert vault.check(FILE.sha256, FILE.size_bytes) is None


def test_bytes_that_are_right_again_are_not_put_aside(vault: Vault, store: DictStore) -> None:
    store.objects[VAULT, blob_key(FILE.sha256)] = b"some Weights"
    assert vault.check(FILE.sha256, FILE.size_bytes) is not None
    # While the rest of a batch is read they are restored.
    store.objects[VAULT, blob_key(FILE.sha256)] = DATA
    assert vault.set_aside(FILE.sha256, FILE.size_bytes) == (None, None)
    assert list(store.list(VAULT, "")) == [blob_key(FILE.sha256)]


def test_the_age_of_what_comes_in_begins_when_it_lies_there(vault: Vault, store: DictStore) -> None:
    """A stream that came for hours has an old key and a young object."""
    old, strange = "incoming/018bcfe5680070008000000000000000", "incoming/not-a-uuid"
    store.objects[VAULT, old] = store.objects[VAULT, strange] = b""
    store.modified_unix_s = 1_000_000.0
    assert vault.sweep_incoming(7200, now_unix_s=1_007_200.0) == 0
    assert vault.leftovers(7200, now_unix_s=1_007_201.0) == [old]
    assert vault.sweep_incoming(7200, now_unix_s=1_007_201.0) == 1
    assert list(store.list(VAULT, "")) == [strange]


def test_what_still_comes_in_here_is_never_swept(store: DictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settling more than the server copies at once takes longer than any age."""
    vault = Vault(store, VAULT, max_copy_bytes=1)
    settle, num_swept = store.copy_checked, list[int]()

    def settle_late(bucket: str, key: str, to_bucket: str, to_key: str, expected: Stored) -> None:
        num_swept.append(vault.sweep_incoming(7200, now_unix_s=1e9))
        settle(bucket, key, to_bucket, to_key, expected)

    monkeypatch.setattr(store, "copy_checked", settle_late)
    assert vault.put_stream(io.BytesIO(DATA)).sha256 == FILE.sha256
    assert num_swept == [0]
    store.objects[VAULT, "incoming/018bcfe5680070008000000000000000"] = b""
    assert vault.sweep_incoming(7200, now_unix_s=1e9) == 1
    assert vault._coming_in == set()


def test_a_removal_is_one_request_that_never_begins_late(vault: Vault, store: DictStore) -> None:
    vault.seal(STAGING, KEY, FILE)
    store.steps.clear()
    assert not vault.remove(FILE.sha256, begin_by_s=time.monotonic() - 1)
    with vault._keys.hold(FILE.sha256):
        assert not vault.remove(FILE.sha256, begin_by_s=time.monotonic() + 10)
    assert store.steps == []
    assert vault.remove(FILE.sha256, begin_by_s=time.monotonic() + 10)
    assert store.steps == ["delete once vault"]
    assert list(store.list(VAULT, "")) == []


def test_only_keys_of_digests_are_blobs(vault: Vault, store: DictStore) -> None:
    vault.seal(STAGING, KEY, FILE)
    store.objects[VAULT, "sha256/short"] = store.objects[VAULT, "other"] = b""
    assert [digest for digest, _ in vault.blobs()] == [FILE.sha256]


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
