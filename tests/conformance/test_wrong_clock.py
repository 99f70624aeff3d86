"""A machine whose clock is two hours off, on every server. rclone's refuses its first request; moto checks no time."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from quantry_blobs.errors import StoreRefused
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import MIN_PART_BYTES, BlobSettings
from quantry_blobs.stores import Stored

OFFSETS_S = [7200, -7200]


@pytest.fixture(params=OFFSETS_S, ids=["ahead", "behind"])
def offset_s(request: pytest.FixtureRequest) -> int:
    offset_s: int = request.param
    return offset_s


@pytest.fixture
def off(s3_settings: BlobSettings, offset_s: int) -> Iterator[MinioStore]:
    """A store on a machine whose clock is off."""
    made = MinioStore(s3_settings, now_unix_s=lambda: time.time() + offset_s)
    yield made
    made.close()


def in_parts(store: MinioStore, bucket: str, folder: Path) -> None:
    data = b"q" * (2 * MIN_PART_BYTES + 1)
    (folder / "in").write_bytes(data)
    sent = store.put_file(bucket, "key", folder / "in")
    store.get_file(bucket, "key", folder / "out", expected=sent)
    assert (folder / "out").read_bytes() == data


def in_parallel_from_the_first(store: MinioStore, bucket: str, folder: Path) -> None:
    assert store.read(bucket, "there", 0, 5) == b"bytes"
    store.get_file(bucket, "there", folder / "out", expected=store.sha256(bucket, "there"))
    assert (folder / "out").read_bytes() == b"bytes"


def of_a_stream(store: MinioStore, bucket: str, _folder: Path) -> None:
    assert store.put_stream(bucket, "key", io.BytesIO(b"q")).size_bytes == 1


def of_heads(store: MinioStore, bucket: str, _folder: Path) -> None:
    assert (store.stat(bucket, "there"), store.stat(bucket, "not-there")) == (5, None)


def of_a_copy(store: MinioStore, bucket: str, _folder: Path) -> None:
    store.copy(bucket, "there", bucket, "copied")
    assert sorted(store.list(bucket, "")) == ["copied", "there"]


def of_a_removal(store: MinioStore, bucket: str, _folder: Path) -> None:
    store.delete(bucket, "there")
    assert list(store.list(bucket, "")) == []


def of_a_bucket(store: MinioStore, bucket: str, _folder: Path) -> None:
    store.ensure_bucket(f"{bucket}-2")
    assert list(store.list(f"{bucket}-2", "")) == []


FIRSTS: list[Callable[[MinioStore, str, Path], None]] = [
    in_parts,
    in_parallel_from_the_first,
    of_a_stream,
    of_heads,
    of_a_copy,
    of_a_removal,
    of_a_bucket,
]


@pytest.mark.parametrize("work", FIRSTS)
def test_everything_works_whatever_comes_first(
    store: MinioStore, off: MinioStore, bucket: str, tmp_path: Path, work: Callable[[MinioStore, str, Path], None]
) -> None:
    assert store.put_stream(bucket, "there", io.BytesIO(b"bytes")) == Stored(5, store.sha256(bucket, "there").sha256)
    work(off, bucket, tmp_path)


def test_a_right_clock_beside_it_stays_right(store: MinioStore, off: MinioStore, bucket: str) -> None:
    for each in (off, store, off, store):
        each.put_stream(bucket, "key", io.BytesIO(b"q"))
        assert each.stat(bucket, "key") == 1


@pytest.mark.parametrize("s3_settings", ["rclone"], indirect=True)  # moto checks no time
def test_the_first_refusal_is_told(off: MinioStore, bucket: str, offset_s: int, caplog: pytest.LogCaptureFixture) -> None:
    assert off.stat(bucket, "key") is None
    assert off.stat(bucket, "key") is None
    warning, *others = caplog.messages
    assert ("ahead of" if offset_s > 0 else "behind") in warning
    assert others == []


@pytest.mark.parametrize("s3_settings", ["rclone"], indirect=True)  # moto checks no signature
def test_a_wrong_secret_stays_a_wrong_setting(s3_settings: BlobSettings, bucket: str, offset_s: int) -> None:
    wrong = s3_settings.model_copy(update={"secret_key": SecretStr("not-the-secret")})
    intruder = MinioStore(wrong, now_unix_s=lambda: time.time() + offset_s)
    with pytest.raises(StoreRefused, match="QUANTRY_S3"):
        intruder.put_stream(bucket, "key", io.BytesIO(b"1"))
    with pytest.raises(StoreRefused, match="QUANTRY_S3"):
        intruder.stat(bucket, "key")
