"""The conformance suite of ObjectStore: every test runs on every server."""

from __future__ import annotations

import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
import urllib3
from pydantic import SecretStr

from quantry_blobs.errors import DigestMismatch, OtherBytes, StoreRefused, StoreUnavailable, UnknownBlob
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import MIN_PART_BYTES, BlobSettings
from quantry_blobs.stores import Stored
from quantry_core.errors import TooLarge

KIB = 1024
SIZES = [0, 1, MIN_PART_BYTES - 1, MIN_PART_BYTES, MIN_PART_BYTES + 1, 3 * MIN_PART_BYTES + 12_345]


def content(size_bytes: int) -> bytes:
    """Returns bytes in which every place differs from its neighbours, so that a shifted part is noticed."""
    block = hashlib.shake_256(b"quantry").digest(64 * KIB + 1)
    return (block * (size_bytes // len(block) + 1))[:size_bytes]


def stored(data: bytes) -> Stored:
    return Stored(len(data), hashlib.sha256(data).hexdigest())


class BrokenStream(io.RawIOBase):
    """Gives some bytes, then breaks."""

    def __init__(self, good_bytes: int) -> None:
        self._left = good_bytes

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            raise OSError("the line broke")
        taken = min(size, self._left)
        self._left -= taken
        return b"x" * taken


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_file_comes_back_as_it_went(store: MinioStore, bucket: str, tmp_path: Path, size_bytes: int) -> None:
    data = content(size_bytes)
    (tmp_path / "in").write_bytes(data)
    (tmp_path / "in").chmod(0o600)
    sent = store.put_file(bucket, "folder/a file+1.bin", tmp_path / "in")
    store.get_file(bucket, "folder/a file+1.bin", tmp_path / "sub" / "out", expected=sent)
    assert sent == stored(data)
    assert (tmp_path / "sub" / "out").read_bytes() == data
    assert (tmp_path / "sub" / "out").stat().st_mode & 0o777 == 0o644
    assert store.stat(bucket, "folder/a file+1.bin") == size_bytes
    assert store.sha256(bucket, "folder/a file+1.bin") == stored(data)


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_stream_comes_back_as_it_went(store: MinioStore, bucket: str, size_bytes: int) -> None:
    data = content(size_bytes)
    assert store.put_stream(bucket, "stream", io.BytesIO(data), max_bytes=size_bytes) == stored(data)
    assert store.read(bucket, "stream", 0, size_bytes) == data


@pytest.mark.parametrize("size_bytes", [10, 2 * MIN_PART_BYTES + 1])
def test_a_stream_past_its_limit_leaves_nothing(store: MinioStore, bucket: str, size_bytes: int) -> None:
    with pytest.raises(TooLarge, match=f"{size_bytes - 1} bytes"):
        store.put_stream(bucket, "big", io.BytesIO(content(size_bytes)), max_bytes=size_bytes - 1)
    assert store.stat(bucket, "big") is None


@pytest.mark.parametrize("good_bytes", [0, 10, 2 * MIN_PART_BYTES + 1])
def test_a_stream_that_breaks_leaves_nothing(store: MinioStore, bucket: str, good_bytes: int) -> None:
    threads_before = threading.active_count()
    with pytest.raises(OSError, match="the line broke"):
        store.put_stream(bucket, "broken", cast(BinaryIO, BrokenStream(good_bytes)))
    assert store.stat(bucket, "broken") is None
    assert threading.active_count() <= threads_before


@pytest.mark.parametrize("good_bytes", [0, 10, 2 * MIN_PART_BYTES + 1, 6 * MIN_PART_BYTES])
def test_a_stream_that_breaks_changes_nothing(store: MinioStore, bucket: str, good_bytes: int) -> None:
    """Not even for a moment: there is nothing to remove again."""
    store.put_stream(bucket, "kept", io.BytesIO(b"old"))
    with pytest.raises(OSError, match="the line broke"):
        store.put_stream(bucket, "kept", cast(BinaryIO, BrokenStream(good_bytes)))
    with pytest.raises(TooLarge):
        store.put_stream(bucket, "kept", io.BytesIO(bytes(good_bytes + 2)), max_bytes=good_bytes + 1)
    assert store.read(bucket, "kept", 0, 10) == b"old"
    assert list(store.list(bucket, "")) == ["kept"]


@pytest.mark.parametrize("wrong", [Stored(2 * MIN_PART_BYTES, "0" * 64), Stored(2 * MIN_PART_BYTES + 1, "0" * 64)], ids=["digest", "size"])
def test_wrong_bytes_are_not_kept(store: MinioStore, bucket: str, tmp_path: Path, wrong: Stored) -> None:
    store.put_stream(bucket, "blob", io.BytesIO(content(2 * MIN_PART_BYTES)))
    with pytest.raises(DigestMismatch):
        store.get_file(bucket, "blob", tmp_path / "out", expected=wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_keeps_the_file_that_was_there(store: MinioStore, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    store.put_stream(bucket, "blob", io.BytesIO(b"new"))
    with pytest.raises(DigestMismatch):
        store.get_file(bucket, "blob", tmp_path / "out", expected=Stored(3, "0" * 64))
    assert (tmp_path / "out").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("start", "length"), [(0, 1), (5, 10), (MIN_PART_BYTES - 2, 4), (MIN_PART_BYTES + 8, 2), (0, 0), (7, 0)])
def test_a_range_is_exactly_that(store: MinioStore, bucket: str, start: int, length: int) -> None:
    data = content(MIN_PART_BYTES + 10)
    store.put_stream(bucket, "blob", io.BytesIO(data))
    assert store.read(bucket, "blob", start, length) == data[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(8, 5), (10, 1), (100, 5)])
def test_a_range_ends_with_the_object(store: MinioStore, bucket: str, start: int, length: int) -> None:
    store.put_stream(bucket, "blob", io.BytesIO(b"0123456789"))
    assert store.read(bucket, "blob", start, length) == b"0123456789"[start : start + length]


def test_an_abandoned_range_gives_its_connection_back(store: MinioStore, bucket: str) -> None:
    store.put_stream(bucket, "blob", io.BytesIO(content(2 * MIN_PART_BYTES)))
    for _ in range(40):
        chunks = store.open_range(bucket, "blob", 0, 2 * MIN_PART_BYTES)
        next(chunks)
        chunks.close()
    assert store.read(bucket, "blob", 0, 4) == content(4)


def test_a_copy_goes_to_another_bucket(store: MinioStore, bucket: str) -> None:
    other = f"{bucket}-other"
    store.ensure_bucket(other)
    data = content(MIN_PART_BYTES + 1)
    store.put_stream(bucket, "a/b", io.BytesIO(data))
    store.copy(bucket, "a/b", other, "c/d")
    assert store.sha256(other, "c/d") == stored(data)
    assert store.stat(bucket, "a/b") == len(data)


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_checked_copy_is_of_the_right_bytes_alone(store: MinioStore, bucket: str, size_bytes: int) -> None:
    data = content(size_bytes)
    store.put_stream(bucket, "from", io.BytesIO(data))
    store.put_stream(bucket, "kept", io.BytesIO(b"old"))
    for wrong in (Stored(size_bytes, "0" * 64), Stored(size_bytes + 1, stored(data).sha256)):
        with pytest.raises(OtherBytes) as refusal:
            store.copy_checked(bucket, "from", bucket, "kept", wrong)
        assert refusal.value.found == stored(data)
        assert store.read(bucket, "kept", 0, 10) == b"old"
    store.copy_checked(bucket, "from", bucket, "to", stored(data))
    assert store.read(bucket, "to", 0, size_bytes + 1) == data
    with pytest.raises(UnknownBlob):
        store.copy_checked(bucket, "none", bucket, "other", stored(data))
    assert sorted(store.list(bucket, "")) == ["from", "kept", "to"]


def test_bytes_swapped_while_they_are_copied_get_no_key(store: MinioStore, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(3 * MIN_PART_BYTES)
    store.put_stream(bucket, "from", io.BytesIO(data))
    ask = store._client.get_object

    def swapped(bucket_name: str, object_name: str, offset: int, length: int) -> object:
        if offset == MIN_PART_BYTES:
            store.put_stream(bucket, "from", io.BytesIO(bytes(len(data))))
        return ask(bucket_name, object_name, offset=offset, length=length)

    monkeypatch.setattr(store._client, "get_object", swapped)
    with pytest.raises((OtherBytes, StoreUnavailable)):
        store.copy_checked(bucket, "from", bucket, "to", stored(data))
    assert store.stat(bucket, "to") is None


def test_a_file_is_sent_unhashed_by_its_signature_and_a_stream_is_not(
    store: MinioStore, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seal hashes a staged file again; nobody does that to what goes to the vault."""
    ask, sent = store._pool.urlopen, []

    def noted(method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        if options["body"] and len(options["body"]) >= MIN_PART_BYTES:
            sent.append(options["headers"]["x-amz-content-sha256"])
        return ask(method, url, **options)

    monkeypatch.setattr(store._pool, "urlopen", noted)
    data = content(2 * MIN_PART_BYTES)
    (tmp_path / "in").write_bytes(data)
    store.put_file(bucket, "file", tmp_path / "in")
    assert sent == ["UNSIGNED-PAYLOAD"] * 2
    store.put_stream(bucket, "stream", io.BytesIO(data))
    assert sorted(sent[2:]) == sorted(stored(part).sha256 for part in (data[:MIN_PART_BYTES], data[MIN_PART_BYTES:]))
    assert store.sha256(bucket, "file") == store.sha256(bucket, "stream") == stored(data)


def test_delete_and_list(store: MinioStore, bucket: str) -> None:
    for key in ["job_1/1/config.json", "job_1/10/config.json", "job_2/1/x/y.json"]:
        store.put_stream(bucket, key, io.BytesIO(b"{}"))
    assert sorted(store.list(bucket, "job_1/1/")) == ["job_1/1/config.json"]
    assert sorted(store.list(bucket, "")) == ["job_1/1/config.json", "job_1/10/config.json", "job_2/1/x/y.json"]
    store.delete(bucket, "job_1/1/config.json")
    store.delete(bucket, "job_1/1/config.json")
    assert list(store.list(bucket, "job_1/1/")) == []
    for _ in range(2):
        store.delete_once(bucket, "job_2/1/x/y.json")
    assert list(store.list(bucket, "")) == ["job_1/10/config.json"]
    assert list(store.list(bucket, "nothing/")) == []


def test_a_list_longer_than_one_answer(store: MinioStore, bucket: str) -> None:
    keys = [f"many/{number:04}" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put_stream(bucket, key, io.BytesIO(b"1")), keys))
    assert sorted(store.list(bucket, "many/")) == keys


def test_what_is_not_there(store: MinioStore, bucket: str, tmp_path: Path) -> None:
    assert store.stat(bucket, "none") is None
    with pytest.raises(UnknownBlob):
        store.sha256(bucket, "none")
    with pytest.raises(UnknownBlob):
        store.read(bucket, "none", 0, 1)
    with pytest.raises(UnknownBlob):
        store.copy(bucket, "none", bucket, "other")
    with pytest.raises(UnknownBlob):
        store.get_file(bucket, "none", tmp_path / "out", expected=Stored(1, "0" * 64))
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_made_once(store: MinioStore, bucket: str) -> None:
    store.put_stream(bucket, "kept", io.BytesIO(b"1"))
    store.ensure_bucket(bucket)
    assert store.stat(bucket, "kept") == 1


def test_a_missing_bucket_is_a_wrong_setting(store: MinioStore) -> None:
    with pytest.raises(StoreRefused, match="no-such-bucket"):
        store.put_stream("no-such-bucket", "key", io.BytesIO(b"1"))


@pytest.mark.parametrize("s3_settings", ["rclone"], indirect=True)  # moto checks no signature
def test_a_wrong_secret_is_a_wrong_setting(s3_settings: BlobSettings, bucket: str) -> None:
    intruder = MinioStore(s3_settings.model_copy(update={"secret_key": SecretStr("not-the-secret")}))
    with pytest.raises(StoreRefused, match="QUANTRY_S3"):
        intruder.put_stream(bucket, "key", io.BytesIO(b"1"))
    with pytest.raises(StoreRefused):
        intruder.stat(bucket, "key")


def test_a_server_that_is_away(s3_settings: BlobSettings, tmp_path: Path) -> None:
    away = MinioStore(s3_settings.model_copy(update={"endpoint": "127.0.0.1:9", "num_retries": 0}))
    (tmp_path / "in").write_bytes(b"1")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        away.put_file("bucket", "key", tmp_path / "in")
    with pytest.raises(StoreUnavailable):
        away.stat("bucket", "key")
    with pytest.raises(StoreUnavailable):
        list(away.list("bucket", ""))
