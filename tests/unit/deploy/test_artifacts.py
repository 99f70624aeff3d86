"""Versions on disk: complete with every digest checked, or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from factories.rollout_records import true_version
from quantry_blobs.errors import DigestMismatch
from quantry_core.errors import NotServable, Unavailable
from quantry_core.versions import ManifestFile, VersionDetail
from quantry_deploy.artifacts import ArtifactCache, read_config
from quantry_deploy.markers import MARKER

CONTENTS = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"weights", "sub/notes.txt": b"notes"}
VERSION = true_version(CONTENTS)


class Source:
    """The vault, as far as a fetch goes."""

    def __init__(self, broken: str = "") -> None:
        self.num_fetched = 0
        self._broken = broken

    def fetch(self, file: ManifestFile, to: Path) -> None:
        if file.path == self._broken:
            raise DigestMismatch(f"{file.path} is not what its digest says")
        self.num_fetched += 1
        to.write_bytes(CONTENTS[file.path])


def unheard(_fraction: float) -> None:
    """Takes a report of progress that the test does not look at."""


def reported(fractions: list[float]) -> list[float]:
    assert fractions == sorted(fractions)
    return fractions


def test_a_pull_brings_every_file_and_marks_them(tmp_path: Path) -> None:
    fractions: list[float] = []
    folder = ArtifactCache(Source(), tmp_path).pull(VERSION, fractions.append)
    assert folder == tmp_path / VERSION.manifest_digest
    assert {path: (folder / path).read_bytes() for path in CONTENTS} == CONTENTS
    assert [path.name for path in tmp_path.iterdir()] == [VERSION.manifest_digest]
    assert len(reported(fractions)) == len(CONTENTS)
    assert read_config(folder) == {"model_type": "llama"}


def test_a_second_pull_fetches_nothing(tmp_path: Path) -> None:
    source = Source()
    cache = ArtifactCache(source, tmp_path)
    cache.pull(VERSION, unheard)
    cache.pull(VERSION, unheard)
    assert source.num_fetched == len(CONTENTS)


def test_a_file_that_is_not_its_digest_leaves_nothing(tmp_path: Path) -> None:
    cache = ArtifactCache(Source(broken="sub/notes.txt"), tmp_path)
    with pytest.raises(DigestMismatch):
        cache.pull(VERSION, unheard)
    assert list(tmp_path.iterdir()) == []
    assert cache.find(VERSION) is None


def test_a_file_list_that_is_not_the_manifest_is_refused_before_a_byte_is_fetched(tmp_path: Path) -> None:
    source = Source()
    lying = VERSION.model_copy(update={"files": VERSION.files[:1]})
    with pytest.raises(DigestMismatch):
        ArtifactCache(source, tmp_path).pull(lying, unheard)
    assert source.num_fetched == 0


@pytest.mark.parametrize("damage", ["shortened", "removed", "added", "unmarked", "mismarked"])
def test_a_damaged_folder_is_removed_and_pulled_again(tmp_path: Path, damage: str) -> None:
    cache = ArtifactCache(Source(), tmp_path)
    folder = cache.pull(VERSION, unheard)
    match damage:
        case "shortened":
            os.truncate(folder / "model.safetensors", 3)
        case "removed":
            (folder / "model.safetensors").unlink()
        case "added":
            (folder / "extra.py").write_text("")
        case "unmarked":
            (folder / MARKER).unlink()
        case "mismarked":
            (folder / MARKER).write_text("{}")
    assert cache.find(VERSION) is None
    assert not folder.exists()
    assert cache.pull(VERSION, unheard) == folder
    assert cache.find(VERSION) == folder


def test_two_at_once_are_one(tmp_path: Path) -> None:
    cache = ArtifactCache(Source(), tmp_path)

    class Overtaken(Source):
        """While it fetches, somebody else finishes."""

        def fetch(self, file: ManifestFile, to: Path) -> None:
            cache.pull(VERSION, unheard)
            super().fetch(file, to)

    folder = ArtifactCache(Overtaken(), tmp_path).pull(VERSION, unheard)
    assert cache.find(VERSION) == folder
    assert [path.name for path in tmp_path.iterdir()] == [VERSION.manifest_digest]


def test_prune_keeps_what_is_named(tmp_path: Path) -> None:
    cache = ArtifactCache(Source(), tmp_path / "cache")
    assert cache.prune([]) == 0
    folder = cache.pull(VERSION, unheard)
    # What a fetch leaves when its process is killed.
    (tmp_path / "cache" / ".incoming-1").mkdir()
    (tmp_path / "cache" / ".incoming-1" / "model.safetensors.0a1b2c3d.part").write_bytes(b"half")
    (tmp_path / "cache" / "model.safetensors.0a1b2c3d.part").write_bytes(b"half")
    assert cache.prune([VERSION.manifest_digest]) == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [VERSION.manifest_digest]
    assert cache.find(VERSION) == folder
    assert cache.prune([]) == 1
    assert cache.find(VERSION) is None


def test_prune_leaves_what_is_being_fetched(tmp_path: Path) -> None:
    class Pruned(Source):
        """While it fetches, others tidy up."""

        def fetch(self, file: ManifestFile, to: Path) -> None:
            super().fetch(file, to)
            assert cache.prune([]) == 0

    cache = ArtifactCache(Pruned(), tmp_path)
    folder = cache.pull(VERSION, unheard)
    assert cache.find(VERSION) == folder
    assert cache.prune([]) == 1


def test_bytes_that_changed_under_an_old_name_are_never_served(tmp_path: Path) -> None:
    source = Source()
    cache = ArtifactCache(source, tmp_path)
    weights = cache.pull(VERSION, unheard) / "model.safetensors"
    weights.write_bytes(b"WEIGHTS")
    assert cache.find(VERSION) is None
    assert cache.pull(VERSION, unheard) == weights.parent
    assert weights.read_bytes() == b"weights"
    assert source.num_fetched == 2 * len(CONTENTS)


def test_files_that_only_look_changed_are_hashed_and_kept(tmp_path: Path) -> None:
    source = Source()
    cache = ArtifactCache(source, tmp_path)
    folder = cache.pull(VERSION, unheard)
    os.utime(folder / "model.safetensors", (1, 1))
    assert cache.find(VERSION) is None
    assert cache.pull(VERSION, unheard) == folder
    assert cache.find(VERSION) == folder
    assert source.num_fetched == len(CONTENTS)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_after_a_restart_every_folder_is_hashed_once_before_it_is_served_from(tmp_path: Path, is_damaged: bool) -> None:
    source = Source()
    folder = ArtifactCache(source, tmp_path).pull(VERSION, unheard)
    status = (folder / "model.safetensors").stat()
    if is_damaged:
        # A bit that turned on the disk changes nothing that can be seen from outside.
        (folder / "model.safetensors").write_bytes(b"wEights")
        os.utime(folder / "model.safetensors", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = ArtifactCache(source, tmp_path)
    assert after.find(VERSION) is None
    assert after.pull(VERSION, unheard) == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert source.num_fetched == len(CONTENTS) * (2 if is_damaged else 1)


def test_what_changes_while_it_is_hashed_is_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ArtifactCache(Source(), tmp_path).pull(VERSION, unheard)

    def written_meanwhile(path: Path) -> str:
        digest = sha(path.read_bytes())
        if path.name == "model.safetensors":
            path.write_bytes(b"WEIGHTS")
        return digest

    after = ArtifactCache(Source(), tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("quantry_deploy.artifacts._sha256", written_meanwhile)
        after.pull(VERSION, unheard)
    assert after.find(VERSION) is None
    assert (after.pull(VERSION, unheard) / "model.safetensors").read_bytes() == b"weights"


def test_a_bad_folder_that_somebody_else_removes_first_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArtifactCache(Source(), tmp_path)
    cache.pull(VERSION, unheard)
    monkeypatch.setattr("quantry_deploy.artifacts.look_at", shutil.rmtree)
    assert cache.find(VERSION) is None


BIG = {"config.json": b"{}", "model.safetensors": bytes(98)}
"""100 bytes."""


class Bytes:
    """A vault of versions that differ in their weights' first bytes."""

    def fetch(self, file: ManifestFile, to: Path) -> None:
        to.write_bytes(next(content for content in ALL if len(content) == file.size_bytes and sha(content) == file.sha256))


def numbered(number: int) -> VersionDetail:
    return true_version({**BIG, "model.safetensors": number.to_bytes(98, "big")})


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


ALL = [b"{}", *(number.to_bytes(98, "big") for number in range(5))]


class Clock:
    now_s = 1e9

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


def digests(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_used_longest_ago_goes_when_room_is_needed(tmp_path: Path) -> None:
    one, two, three, four = (numbered(number) for number in range(4))
    cache = ArtifactCache(Bytes(), tmp_path, max_bytes=300, clock=Clock())
    for version in (one, two, three):
        cache.pull(version, unheard)
    assert cache.find(one) is not None
    assert cache.prune([]) == 0
    cache.pull(four, unheard)
    assert digests(tmp_path) == {version.manifest_digest for version in (one, three, four)}
    assert cache.size_bytes() == 300


def test_what_is_wanted_or_was_just_used_never_goes(tmp_path: Path) -> None:
    one, two, three, four = (numbered(number) for number in range(4))
    cache = ArtifactCache(Bytes(), tmp_path, max_bytes=300, clock=Clock())
    for version in (one, two):
        cache.pull(version, unheard)
    cache.prune([one.manifest_digest, two.manifest_digest])
    cache.pull(three, unheard)
    with pytest.raises(Unavailable, match="no room for 100 bytes: 300 of 300 are in use"):
        cache.pull(four, unheard)
    cache.prune([one.manifest_digest, two.manifest_digest])
    cache.pull(four, unheard)
    assert digests(tmp_path) == {version.manifest_digest for version in (one, two, four)}


def test_before_it_is_known_what_is_wanted_nothing_goes(tmp_path: Path) -> None:
    one, two = numbered(0), numbered(1)
    ArtifactCache(Bytes(), tmp_path, max_bytes=150).pull(one, unheard)
    after = ArtifactCache(Bytes(), tmp_path, max_bytes=150)
    with pytest.raises(Unavailable, match="no room"):
        after.pull(two, unheard)
    after.prune([])
    after.pull(two, unheard)
    assert digests(tmp_path) == {two.manifest_digest}


def test_a_lower_limit_is_kept_at_the_next_prune(tmp_path: Path) -> None:
    for number in range(3):
        ArtifactCache(Bytes(), tmp_path, clock=Clock()).pull(numbered(number), unheard)
    assert ArtifactCache(Bytes(), tmp_path, max_bytes=150).prune([]) == 2


def test_a_version_larger_than_the_whole_cache_is_refused_with_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(NotServable, match=r"has 100 bytes and this host keeps 99 of all versions together \(QUANTRY_DEPLOY_CACHE_BYTES\)"):
        ArtifactCache(Bytes(), tmp_path, max_bytes=99).pull(numbered(0), unheard)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_before_a_byte_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(100, 50, 50))
    with pytest.raises(OSError, match="100 bytes are needed and 50 are free"):
        ArtifactCache(Bytes(), tmp_path).pull(numbered(0), unheard)
