"""Folders that hold backups, manifests that say what is in them, and the commands' answers to what cannot be."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from quantry_blobs.errors import DigestMismatch, UnknownBlob
from quantry_blobs.stores import Stored
from quantry_core.errors import InvalidInput
from quantry_registry.backup.__main__ import EXIT_DAMAGED, EXIT_REFUSED, main
from quantry_registry.backup.manifest import (
    BLOB_LIST,
    DUMP,
    FORMAT,
    MANIFEST,
    BackupError,
    FileDigest,
    Manifest,
    blob_file,
    blob_list,
    file_of,
    load_manifest,
    manifests,
    new_backup_id,
    read_blob_list,
)
from quantry_registry.backup.places import BucketPlace, Expecting, FolderPlace, place_of
from quantry_registry.backup.progress import Progress, bytes_text, each
from quantry_registry.backup.prune import prune
from quantry_store.repositories.blobs import Blob

HELLO = Stored(5, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")


def written(place: FolderPlace, content: bytes = b"hello", backup_id: str | None = None) -> Manifest:
    """Returns the manifest of a backup of one blob that was just written."""
    backup_id = backup_id or new_backup_id(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    found = place.write("blobs/tmp", io.BytesIO(content))
    place.remove("blobs/tmp")
    place.write(blob_file(found.sha256), io.BytesIO(content))
    manifest = Manifest(
        format=FORMAT,
        id=backup_id,
        taken_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        revision="0001_spine",
        postgres_major=18,
        pg_dump_major=18,
        quantry="0.1.0",
        vault_bucket="quantry-vault",
        num_blobs=1,
        num_bytes=len(content),
        num_left_out=0,
        dump=FileDigest.of(place.write(file_of(backup_id, DUMP), io.BytesIO(b"dump"))),
        blob_list=FileDigest.of(place.write(file_of(backup_id, BLOB_LIST), blob_list([Blob(found.sha256, len(content))]))),
    )
    place.write(file_of(backup_id, MANIFEST), manifest.stream())
    return manifest


class Failing(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        raise OSError("the disk is full")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path / "place")
    assert place.size("a/b") is None
    assert place.write("a/b", io.BytesIO(b"hello")) == HELLO
    assert (place.size("a/b"), place.read("a/b"), place.digest("a/b")) == (5, b"hello", HELLO)
    with pytest.raises(OSError, match="the disk is full"):
        place.write("a/c", io.BufferedReader(Failing()))
    assert place.names("a/") == ["a/b"]
    assert [path.name for path in (place.root / "a").iterdir()] == ["b"], "nothing half is left"
    with pytest.raises(UnknownBlob, match="there is no a/c"):
        place.read("a/c")
    place.remove("a/b")
    place.remove("a/b")
    assert place.names("a/") == []


def test_files_are_checked_before_they_are_used(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path)
    place.write("file", io.BytesIO(b"hello"))
    with place.local("file", HELLO) as path:
        assert path.read_bytes() == b"hello"
    with pytest.raises(DigestMismatch, match="file has 5 bytes with SHA-256 2cf2"), place.local("file", Stored(5, "0" * 64)):
        pytest.fail("a file that is another was given out")
    assert io.BufferedReader(Expecting(io.BytesIO(b"hello"), "x", HELLO)).read() == b"hello"
    with pytest.raises(DigestMismatch, match="x has 4 bytes"):
        io.BufferedReader(Expecting(io.BytesIO(b"hell"), "x", HELLO)).read()


def test_a_place_is_a_folder_or_a_prefix(tmp_path: Path) -> None:
    def nobody_connects() -> Any:
        raise AssertionError("a folder needs no server")

    assert str(place_of(str(tmp_path), nobody_connects)) == str(tmp_path)
    in_a_bucket = place_of("s3://backups/of/quantry/", lambda: None)  # type: ignore[arg-type, return-value]
    assert isinstance(in_a_bucket, BucketPlace)
    assert str(in_a_bucket) == "s3://backups/of/quantry/"
    for wrong in ("s3://", "s3:///prefix", "https://somewhere/backups"):
        with pytest.raises(InvalidInput, match="s3://bucket/prefix"):
            place_of(wrong, nobody_connects)


def test_a_manifest_that_was_changed_is_refused(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path)
    manifest = written(place)
    name = file_of(manifest.id, MANIFEST)
    assert load_manifest(place, None) == load_manifest(place, manifest.id) == manifest
    document = json.loads(place.read(name))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"num_bytes": 6}, "is not what its own digest says"),
        ({"format": 2}, "is of layout 2, and this release reads layout 1"),
        ({"manifest_sha256": "0" * 64}, "is not what its own digest says"),
    ]
    for change, words in changes:
        with pytest.raises(BackupError, match=words):
            Manifest.parse(name, json.dumps(document | change).encode())
    for content in (b"", b"[]", b"{}", b"\xff"):
        with pytest.raises(BackupError, match="is no manifest of a backup"):
            Manifest.parse(name, content)
    with pytest.raises(BackupError, match="no whole backup 20200101T000000Z-00000000 in .*there are: " + manifest.id):
        load_manifest(place, "20200101T000000Z-00000000")
    place.write(file_of(manifest.id, BLOB_LIST), io.BytesIO(b"{}\n"))
    with pytest.raises(BackupError, match=r"blobs\.jsonl is damaged"):
        read_blob_list(place, manifest)


def test_the_newest_stay_with_what_they_need(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path)
    old = written(place, b"only in the old one", "20260101T000000Z-00000001")
    new = written(place, b"hello", "20260102T000000Z-00000002")
    place.write(file_of("20260103T000000Z-00000003", DUMP), io.BytesIO(b"broken off"))
    assert list(manifests(place)) == [old.id, new.id]
    pruned = prune(place, keep=1)
    assert (list(pruned.backups), list(pruned.unfinished), pruned.num_blobs) == ([old.id], ["20260103T000000Z-00000003"], 1)
    assert place.names("blobs/") == [blob_file(HELLO.sha256)]
    assert {name.split("/")[1] for name in place.names("backups/")} == {new.id}
    assert prune(place, keep=5).num_blobs == 0
    place.write(file_of(new.id, BLOB_LIST), io.BytesIO(b"{}\n"))
    with pytest.raises(BackupError, match="is damaged"):
        prune(place, keep=1)
    assert place.names("blobs/") == [blob_file(HELLO.sha256)], "what cannot be told to be unneeded stays"


def test_ids_sort_by_time_within_a_second_too() -> None:
    begun = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
    ids = [new_backup_id(begun + timedelta(microseconds=offset)) for offset in (0, 1, 999_999, 1_000_000)]
    assert ids == sorted(ids)


def test_fewer_backups_than_are_to_stay_all_stay(tmp_path: Path) -> None:
    place = FolderPlace(tmp_path)
    made = [written(place, b"hello", f"2026010{day}T000000Z-0000000{day}").id for day in (1, 2, 3)]
    assert prune(place, keep=4).backups == prune(place, keep=5).backups == []
    assert list(manifests(place)) == made


def test_the_first_error_of_many_ends_the_work() -> None:
    blobs = [Blob(f"{number:064x}", number) for number in range(200)]
    done: list[int] = []

    def work(blob: Blob) -> int:
        if blob.size_bytes == 3:
            raise OSError("gone")
        done.append(blob.size_bytes)
        return blob.size_bytes

    with pytest.raises(OSError, match="gone"):
        each(blobs, work, "read", Progress(io.StringIO()), parallel=1)
    assert len(done) < len(blobs), "what was not begun is not begun any more"
    assert each(blobs[4:], work, "read", Progress(io.StringIO()), parallel=4) == {blob: blob.size_bytes for blob in blobs[4:]}


def test_progress_is_said_now_and_then_and_at_the_end() -> None:
    output, now = io.StringIO(), [0.0]
    progress = Progress(output, clock=lambda: now[0])
    blobs = [Blob(f"{number:064x}", 1000) for number in range(4)]
    for num_done in range(1, 5):
        progress.count("copied", blobs[:num_done], blobs)
        now[0] += 1.0
    said = output.getvalue().splitlines()
    assert said == [
        "copied: 1 of 4 blobs, 1.0 kB of 4.0 kB",
        "copied: 3 of 4 blobs, 3.0 kB of 4.0 kB",
        "copied: 4 of 4 blobs, 4.0 kB of 4.0 kB",
    ]
    assert [bytes_text(number) for number in (0, 999, 1500, 2.5e9, 7e15)] == ["0 B", "999 B", "1.5 kB", "2.5 GB", "7000.0 TB"]


def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": os.defpath})
    place = FolderPlace(tmp_path)
    manifest = written(place)
    assert main(["list", str(tmp_path)]) == 0
    assert manifest.id in capsys.readouterr().out
    assert main(["list", str(tmp_path), "--json"]) == 0
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)] == [manifest.id]
    assert main(["verify", str(tmp_path)]) == 0
    (tmp_path / blob_file(HELLO.sha256)).write_bytes(b"hullo")
    capsys.readouterr()
    assert main(["verify", str(tmp_path), "--json"]) == EXIT_DAMAGED
    document, said = capsys.readouterr()
    assert {key: json.loads(document)[key] for key in ("backup", "is_whole")} == {"backup": manifest.id, "is_whole": False}
    assert f"{blob_file(HELLO.sha256)} is damaged: its bytes are others" in said
    assert "1 of its files" in said
    for arguments, words in (
        (["verify", str(tmp_path / "elsewhere")], "there is no whole backup in"),
        (["create", str(tmp_path)], "QUANTRY_S3_ENDPOINT: Field required"),
        (["verify", "https://somewhere"], "neither a folder nor s3://"),
    ):
        assert main(arguments) == EXIT_REFUSED
        assert words in capsys.readouterr().err
    given = {"QUANTRY_S3_ENDPOINT": "127.0.0.1:1", "QUANTRY_S3_ACCESS_KEY": "key", "QUANTRY_S3_SECRET_KEY": "word"}
    given |= {"QUANTRY_DATABASE_URL": "postgresql+psycopg://nobody@/nothing", "QUANTRY_BACKUP_PG_BIN": str(tmp_path)}
    monkeypatch.setattr(os, "environ", given)
    assert main(["create", str(tmp_path)]) == EXIT_REFUSED
    assert f"there is no pg_dump in {tmp_path}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["prune", str(tmp_path), "--keep", "0"])
    assert "at least one backup stays" in capsys.readouterr().err
