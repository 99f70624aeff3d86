from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from factories.checkpoints import master_contents, write_checkpoint
from quantry_blobs.directory import DirectoryCheckpoint, hash_directory
from quantry_core.checkpoints import MAX_FILES, check_master, inspect_checkpoint
from quantry_core.errors import SourceRefused
from quantry_core.versions import ManifestFile

Use = Callable[[DirectoryCheckpoint], object]


def test_a_directory_passes_the_import_rules(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, master_contents())
    info = inspect_checkpoint(DirectoryCheckpoint(tmp_path))
    assert check_master(info) == "float16"
    assert set(info.files) == {"config.json", "tokenizer.json", "model.safetensors"}


def test_the_manifest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    contents = {"b.json": b"{}", "sub/a.txt": b"x" * 300_000, "empty.txt": b""}
    write_checkpoint(tmp_path, contents)
    assert hash_directory(tmp_path) == [
        ManifestFile(path=path, size_bytes=len(contents[path]), sha256=hashlib.sha256(contents[path]).hexdigest())
        for path in ["b.json", "empty.txt", "sub/a.txt"]
    ]


def test_part_of_a_file_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"a.txt": b"0123456789"})
    checkpoint = DirectoryCheckpoint(tmp_path)
    assert checkpoint.read("a.txt", 3, 4) == b"3456"
    assert checkpoint.read("a.txt", 8, 100) == b"89"


def test_hidden_files_are_not_part_of_it(tmp_path: Path) -> None:
    for folder in [".cache/huggingface", ".git", "sub/.hidden"]:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "code.py").write_bytes(b"boom")
    write_checkpoint(tmp_path, {"config.json": b"{}", ".gitattributes": b""})
    assert dict(DirectoryCheckpoint(tmp_path).files()) == {"config.json": 2}


def test_a_link_inside_is_followed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"real.json": b"{}"})
    (tmp_path / "link.json").symlink_to("real.json")
    checkpoint = DirectoryCheckpoint(tmp_path)
    assert dict(checkpoint.files()) == {"real.json": 2, "link.json": 2}
    assert checkpoint.read("link.json", 0, 2) == b"{}"


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside.json", "circle.json", "nothing.json"])
def test_a_link_that_leads_elsewhere_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside.json").write_bytes(b"{}")
    folder = write_checkpoint(tmp_path / "model", {"config.json": b"{}"})
    (folder / "circle.json").symlink_to(target)
    with pytest.raises(SourceRefused, match=r"circle\.json"):
        DirectoryCheckpoint(folder)


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", {"config.json": b"{}"})
    (folder / "loop").symlink_to(".")
    with pytest.raises(SourceRefused, match="loop is a link to a folder"):
        DirectoryCheckpoint(folder)


def test_a_link_swapped_in_after_the_listing_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", {"config.json": b"{}"})
    (tmp_path / "secret").write_bytes(b"secret")
    checkpoint = DirectoryCheckpoint(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceRefused, match="leads out"):
        checkpoint.read("config.json", 0, 6)


@pytest.mark.parametrize(
    "use",
    [
        lambda checkpoint: checkpoint.read("config.json", 0, 6),
        lambda checkpoint: checkpoint.copy_to("config.json", checkpoint.root.parent / "copy"),
        lambda checkpoint: hash_directory(checkpoint.root),
    ],
    ids=["read", "copy", "hash"],
)
def test_a_link_swapped_in_just_before_the_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Use) -> None:
    """Whatever was looked at before, what counts is what is open."""
    folder = write_checkpoint(tmp_path / "model", {"config.json": b"{}"})
    (tmp_path / "secret").write_bytes(b"secret")
    checkpoint = DirectoryCheckpoint(folder)
    opened = os.open

    def swap_and_open(path: Path, flags: int, *others: int) -> int:
        (folder / "config.json").unlink()
        (folder / "config.json").symlink_to(tmp_path / "secret")
        return opened(path, flags, *others)

    monkeypatch.setattr(os, "open", swap_and_open)
    with pytest.raises(SourceRefused, match="leads out"):
        use(checkpoint)
    assert not (tmp_path / "copy").exists()


def test_a_folder_swapped_for_a_link_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model" / "sub", {"a.json": b"{}"}).parent
    write_checkpoint(tmp_path / "outside", {"a.json": b"secret"})
    checkpoint = DirectoryCheckpoint(folder)
    (folder / "sub").rename(tmp_path / "aside")
    (folder / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(SourceRefused, match="leads out"):
        checkpoint.open("sub/a.json")


def test_a_pipe_swapped_in_does_not_hold_the_reader(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"config.json": b"{}"})
    checkpoint = DirectoryCheckpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(SourceRefused, match="no plain file"):
        checkpoint.read("config.json", 0, 2)


def test_a_copy_is_of_the_bytes_and_closes_what_it_opened(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"a.txt": b"x" * 3_000_000})
    num_open = len(list(Path("/proc/self/fd").iterdir()))
    DirectoryCheckpoint(tmp_path).copy_to("a.txt", tmp_path / "copy")
    with pytest.raises(SourceRefused):
        DirectoryCheckpoint(tmp_path).open("../")
    assert (tmp_path / "copy").read_bytes() == b"x" * 3_000_000
    assert len(list(Path("/proc/self/fd").iterdir())) == num_open


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(SourceRefused, match=r"pipe\.json is no plain file"):
        DirectoryCheckpoint(tmp_path)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("door.json")
        with pytest.raises(SourceRefused, match=r"door\.json is no plain file"):
            DirectoryCheckpoint(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file.json"])
def test_what_is_no_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.json").write_bytes(b"{}")
    with pytest.raises(SourceRefused, match="is not a directory"):
        DirectoryCheckpoint(tmp_path / name)


def test_a_directory_of_too_many_files_is_refused_early(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.json").touch()
    with pytest.raises(SourceRefused, match=f"more than the {MAX_FILES} files"):
        DirectoryCheckpoint(tmp_path)


@pytest.mark.parametrize("path", ["a b.json", "sub/sub/a.json"])
def test_a_path_that_cannot_be_in_a_manifest_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(b"{}")
    with pytest.raises(SourceRefused, match="safe file path"):
        hash_directory(tmp_path)


def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"config.json": b"{}"})
    checkpoint = DirectoryCheckpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(SourceRefused, match=r"config\.json cannot be read: No such file"):
        checkpoint.read("config.json", 0, 2)


def test_the_worker_child_needs_no_s3_library() -> None:
    code = "import sys, quantry_blobs.directory; print([name for name in ('minio', 'urllib3', 'pydantic_settings') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
