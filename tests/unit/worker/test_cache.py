from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from quantry_blobs.errors import DigestMismatch
from quantry_core.versions import ManifestFile
from quantry_worker.cache import BlobCache


def manifest(content: bytes, path: str = "weights.safetensors") -> ManifestFile:
    return ManifestFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


class Source:
    """Brings content by digest and counts how often it was asked."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {hashlib.sha256(content).hexdigest(): content for content in contents}
        self.num_fetches = 0

    def __call__(self, file: ManifestFile, to: Path) -> None:
        self.num_fetches += 1
        to.write_bytes(self.contents[file.sha256])


def num_entries(directory: Path) -> int:
    return len(list((directory / "sha256").iterdir()))


def test_the_second_time_nothing_is_fetched(tmp_path: Path) -> None:
    cache, source = BlobCache(tmp_path / "cache", 1000), Source(b"abc")
    assert cache.link(manifest(b"abc"), tmp_path / "1" / "a", source) is False
    assert cache.link(manifest(b"abc"), tmp_path / "2" / "b", source) is True
    assert source.num_fetches == 1
    assert (tmp_path / "1" / "a").read_bytes() == (tmp_path / "2" / "b").read_bytes() == b"abc"
    assert (tmp_path / "2" / "b").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("change", [b"abX", b"abcd"], ids=["same size", "other size"])
def test_an_entry_that_was_written_to_is_fetched_again(tmp_path: Path, change: bytes) -> None:
    cache, source = BlobCache(tmp_path / "cache", 1000), Source(b"abc")
    cache.link(manifest(b"abc"), tmp_path / "1", source)
    (tmp_path / "1").chmod(0o644)
    (tmp_path / "1").write_bytes(change)
    assert cache.link(manifest(b"abc"), tmp_path / "2", source) is False
    assert (tmp_path / "2").read_bytes() == b"abc"


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(file: ManifestFile, to: Path) -> None:
        to.write_bytes(b"half")
        raise DigestMismatch("not those bytes")

    cache = BlobCache(tmp_path / "cache", 1000)
    with pytest.raises(DigestMismatch):
        cache.link(manifest(b"abc"), tmp_path / "1", fail)
    assert not (tmp_path / "1").exists()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_the_entry_used_longest_ago_goes_first(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100 for number in range(4)]
    cache, source = BlobCache(tmp_path / "cache", 300), Source(*contents)
    for number, content in enumerate(contents[:3]):
        cache.link(manifest(content), tmp_path / f"first-{number}", source)
    cache.link(manifest(contents[0]), tmp_path / "again", source)
    cache.link(manifest(contents[3]), tmp_path / "one too many", source)
    assert num_entries(tmp_path / "cache") == 3
    assert cache.link(manifest(contents[0]), tmp_path / "x", source) is True
    assert cache.link(manifest(contents[1]), tmp_path / "y", source) is False


def test_a_file_larger_than_the_cache_is_still_delivered(tmp_path: Path) -> None:
    cache, source = BlobCache(tmp_path / "cache", 10), Source(b"x" * 100)
    assert cache.link(manifest(b"x" * 100), tmp_path / "1", source) is False
    assert (tmp_path / "1").stat().st_size == 100
    assert num_entries(tmp_path / "cache") == 0


def test_a_worker_that_starts_removes_half_pulled_files(tmp_path: Path) -> None:
    cache, source = BlobCache(tmp_path / "cache", 1000), Source(b"abc")
    cache.link(manifest(b"abc"), tmp_path / "1", source)
    (tmp_path / "cache" / "incoming" / "half").write_bytes(b"a")
    (tmp_path / "cache" / "incoming" / "half.part").write_bytes(b"a")
    cache.clear_incoming()
    assert list((tmp_path / "cache" / "incoming").iterdir()) == []
    assert num_entries(tmp_path / "cache") == 1
    assert (tmp_path / "1").stat().st_nlink == 2
