from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantry_worker.datasets_cache import lend_datasets


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A HF_HOME with a dataset in two versions, the file of a repository, and a token."""
    root = tmp_path / "cache"
    for number, name in enumerate(("new", "old")):
        folder = root / "datasets" / "ns___task" / "default" / "0.0.0" / name
        folder.mkdir(parents=True)
        (folder / "task-test.arrow").write_text(name)
        os.utime(folder, (1000 - number, 1000 - number))
    (root / "datasets" / "ns___task" / "default.lock").touch()
    blobs, snapshot = root / "hub" / "datasets--ns--task" / "blobs", root / "hub" / "datasets--ns--task" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "1f").write_text("rows")
    (snapshot / "rows.json").symlink_to("../../blobs/1f")
    (root / "token").write_text("secret")
    return root


def test_everything_is_there_and_what_is_written_beside_it_stays_with_the_attempt(cache: Path, tmp_path: Path) -> None:
    before = sorted(cache.rglob("*"))
    home = tmp_path / "attempt"
    lend_datasets(cache, home)
    versions = home / "datasets" / "ns___task" / "default" / "0.0.0"
    assert {path.name: (path / "task-test.arrow").read_text() for path in versions.iterdir()} == {"new": "new", "old": "old"}
    assert max(versions.iterdir(), key=lambda path: path.stat().st_mtime).name == "new"
    assert (home / "hub" / "datasets--ns--task" / "snapshots" / "abc" / "rows.json").read_text() == "rows"
    (versions / "new" / "cache.arrow").touch()
    (versions / "new_builder.lock").touch()
    assert sorted(cache.rglob("*")) == before


def test_a_token_and_stale_locks_are_not_lent(cache: Path, tmp_path: Path) -> None:
    lend_datasets(cache, tmp_path / "attempt")
    assert not [path for path in (tmp_path / "attempt").rglob("*") if path.name == "token" or path.suffix == ".lock"]


def test_a_folder_that_is_not_there_lends_nothing(tmp_path: Path) -> None:
    lend_datasets(tmp_path / "nowhere", tmp_path / "attempt")
    assert not (tmp_path / "attempt").exists()
