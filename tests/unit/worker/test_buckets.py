"""Imports out of buckets: only allowed ones, only whole files, and refused before anything is fetched where that can be told."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from pydantic import SecretStr

from factories.checkpoints import master_contents
from quantry_blobs.errors import StoreRefused, StoreUnavailable
from quantry_blobs.settings import BlobSettings
from quantry_blobs.stores import ObjectStore
from quantry_core.errors import SourceRefused
from quantry_core.jobs import CalibrationSpec, ImportSpec, InputRole, QuantizeSpec
from quantry_core.sources import BucketSource
from quantry_worker.buckets import ImportBuckets, bucket_of, import_buckets
from quantry_worker.disk import DiskFull, check_room
from quantry_worker.guard import Bounds, Guard
from quantry_worker.settings import WorkerSettings

SOURCE = BucketSource(bucket="models", prefix="tiny/")


class FakeBucket:
    """As much of an ObjectStore as an import needs."""

    def __init__(self, objects: Mapping[str, bytes], grown_by: bytes = b"") -> None:
        self.objects = dict(objects)
        self.grown_by = grown_by
        self.num_opened = 0

    def list(self, bucket: str, prefix: str) -> Iterator[str]:
        if bucket != "models":
            raise StoreRefused(f"there is no bucket {bucket}")
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def stat(self, _bucket: str, key: str) -> int | None:
        return len(self.objects[key])

    def open_range(self, _bucket: str, key: str, start: int, length: int) -> Generator[bytes, None, None]:
        self.num_opened += 1
        yield (self.objects[key] + self.grown_by)[start : start + length]


class DiskUsage(NamedTuple):
    free: int


def guard() -> Guard:
    return Guard(lease_s=60, since=0.0, is_draining=lambda: False, bounds=Bounds(None, None), drain_grace_s=0, clock=lambda: 0.0)


def fetch(bucket: FakeBucket, tmp_path: Path, source: BucketSource = SOURCE, allowed: tuple[str, ...] = ("models", "gone")) -> Path:
    directory = tmp_path / "inputs" / "source"
    fetched = ImportBuckets(allowed, lambda: cast(ObjectStore, bucket)).fetch(source, directory, guard())
    assert (fetched.role, fetched.path) == (InputRole.SOURCE, directory)
    return directory


def below(prefix: str, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    return {prefix + path: content for path, content in contents.items()}


def test_what_lies_under_the_prefix_is_fetched_and_nothing_else(tmp_path: Path) -> None:
    others = {"tiny": b"x", "tiny/": b"", "tiny/.git/config": b"x", "tiny-2/config.json": b"x", "other/model.bin": b"x"}
    directory = fetch(FakeBucket(below("tiny/", master_contents()) | others), tmp_path)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == master_contents()


def test_a_bucket_that_is_not_allowed_is_not_asked(tmp_path: Path) -> None:
    bucket = FakeBucket({})
    with pytest.raises(SourceRefused, match="may not read the bucket models"):
        fetch(bucket, tmp_path, allowed=("others",))


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({}, "nothing lies under s3:models/tiny/"),
        ({"tiny/pytorch_model.bin": b"x"}, "pickled"),
        ({"tiny/a/b/c.json": b"x"}, "not a safe file path"),
        ({"tiny/modeling.py": b"x"}, "code inside a checkpoint"),
    ],
)
def test_what_cannot_be_a_checkpoint_is_refused_before_anything_is_fetched(tmp_path: Path, objects: dict[str, bytes], words: str) -> None:
    bucket = FakeBucket(objects)
    with pytest.raises(SourceRefused, match=words):
        fetch(bucket, tmp_path)
    assert bucket.num_opened == 0


@pytest.mark.parametrize("grown_by", [b"x", b"xxxx"])
def test_an_object_that_grew_since_it_was_listed_is_not_taken(tmp_path: Path, grown_by: bytes) -> None:
    with pytest.raises(StoreUnavailable, match="came"):
        fetch(FakeBucket(below("tiny/", master_contents()), grown_by), tmp_path)


def test_a_bucket_that_is_not_there_is_the_users_business(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="cannot be read: there is no bucket gone"):
        fetch(FakeBucket({}), tmp_path, BucketSource(bucket="gone", prefix=""))


def test_too_little_disk_is_said_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: DiskUsage(free=300 * 1024**2))
    check_room(tmp_path, 40 * 1024**2)
    with pytest.raises(DiskFull, match=r"the worker's disk is full: .* 314572800 are free"):
        check_room(tmp_path, 50 * 1024**2)


def test_only_an_import_from_a_bucket_has_one() -> None:
    assert bucket_of(ImportSpec(model="a", source="s3:models/tiny")) == SOURCE
    assert bucket_of(ImportSpec(model="a", source="hf:a/b")) is None
    assert bucket_of(QuantizeSpec(base="a", calibration=CalibrationSpec(datasets=["b"]))) is None


def test_the_platforms_own_buckets_are_no_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = WorkerSettings(
        control_url="http://control.test",
        worker_token=SecretStr("token"),
        broker_url=SecretStr("redis://"),
        work_dir=tmp_path,
        worker_queues=["cpu"],
        ml_python=tmp_path,
        import_buckets=["models", "quantry-vault"],
    )
    platform = BlobSettings.model_validate({"endpoint": "127.0.0.1:9", "access_key": "nobody", "secret_key": "nobody"})
    with pytest.raises(ValueError, match="QUANTRY_IMPORT_BUCKETS has 'quantry-vault', where the platform keeps the bytes of all projects"):
        import_buckets(settings, cast(ObjectStore, FakeBucket({})), platform)
    monkeypatch.setenv("QUANTRY_IMPORT_S3_ENDPOINT", "elsewhere:9000")
    import_buckets(settings, cast(ObjectStore, FakeBucket({})), platform)
