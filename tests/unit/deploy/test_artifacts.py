"""Versions on disk: complete with every digest checked, or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from factories.rollout_records import true_version
from quantry_blobs.errors import DigestMismatch
from quantry_core.versions import ManifestFile
from quantry_deploy.artifacts import MARKER, ArtifactCache, read_config

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
