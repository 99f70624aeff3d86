"""Exports that check every byte, go on where they broke off, and come with a model card."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import httpx
import pytest

from factories.client import MASTER_ID, Breaking, FakeServer, Pieces, answer, failing, problem, version
from quantry import ApiError, DownloadDamaged, ExportRefused, ServerUnreachable
from quantry_core.cards import CARD_MARK

FILES = {"config.json": b"{}", "weights/model.safetensors": b"0123456789" * 100, "empty.txt": b""}
CARD = f"---\nlicense: mit\n---\n{CARD_MARK}\n"
EXPORTED = FILES | {"README.md": CARD.encode()}
WEIGHTS = f"/api/v1/versions/{MASTER_ID}/files/weights/model.safetensors"


OWN = FILES | {"README.md": b"its own"}


def bytes_of(request: httpx.Request) -> httpx.Response:
    data = OWN[request.url.path.partition("/files/")[2]]
    start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    return httpx.Response(206 if start else 200, stream=Pieces(data[start:]))


def server_of(files: dict[str, bytes]) -> FakeServer:
    server = FakeServer()
    server.on("GET", "/api/v1/versions/bard@1", answer(version(files)))
    for path in files:
        server.on("GET", f"/api/v1/versions/{MASTER_ID}/files/{path}", bytes_of)
    server.on("GET", f"/api/v1/versions/{MASTER_ID}/card", lambda _request: httpx.Response(200, text=CARD))
    return server


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_holds_every_byte_and_nothing_else(tmp_path: Path) -> None:
    arrived: list[int] = []
    paths = server_of(FILES).client().versions.export("bard@1", tmp_path / "new", progress=arrived.append)
    assert contents(tmp_path / "new") == EXPORTED
    assert sorted(paths) == sorted(tmp_path / "new" / name for name in EXPORTED)
    assert sum(arrived) == 1002
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in paths)


def test_a_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    server = server_of(FILES)
    broken = httpx.Response(200, stream=Breaking(FILES["weights/model.safetensors"][:300]))
    server.on("GET", WEIGHTS, lambda _request: broken, failing(httpx.ReadError), bytes_of)
    server.client().versions.export("bard@1", tmp_path)
    assert contents(tmp_path) == EXPORTED
    assert [request.headers.get("range") for request in server.requests if request.url.path == WEIGHTS] == [
        None,
        "bytes=300-",
        "bytes=300-",
    ]


def test_a_server_that_keeps_breaking_off_is_given_up(tmp_path: Path) -> None:
    server = server_of(FILES)
    server.on("GET", WEIGHTS, lambda _request: httpx.Response(200, stream=Breaking()))
    with pytest.raises(ServerUnreachable, match="breaks off at byte 0"):
        server.client().versions.export("bard@1", tmp_path)
    assert "weights/model.safetensors" not in contents(tmp_path)


@pytest.mark.parametrize("wrong", [b"x" * 1000, b"short", b"0123456789" * 101])
def test_wrong_bytes_are_never_left_under_the_files_name(tmp_path: Path, wrong: bytes) -> None:
    server = server_of(FILES)
    server.on("GET", WEIGHTS, lambda _request: httpx.Response(200, stream=Pieces(wrong)))
    with pytest.raises(DownloadDamaged, match=r"weights/model\.safetensors"):
        server.client().versions.export("bard@1", tmp_path)
    assert contents(tmp_path) == {"config.json": b"{}"}


def test_an_export_can_be_run_again_and_fetches_only_what_is_missing(tmp_path: Path) -> None:
    server_of(FILES).client().versions.export("bard@1", tmp_path)
    (tmp_path / "config.json").unlink()
    again = server_of(FILES)
    again.client().versions.export("bard@1", tmp_path)
    assert contents(tmp_path) == EXPORTED
    assert [request.url.path.rpartition("/")[2] for request in again.requests] == ["bard@1", "config.json", "card"]


def test_other_bytes_in_the_way_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"mine")
    with pytest.raises(ExportRefused, match=r"config\.json"):
        server_of(FILES).client().versions.export("bard@1", tmp_path)
    assert (tmp_path / "config.json").read_bytes() == b"mine"


def test_delete_takes_the_id_that_the_name_means_now() -> None:
    server = server_of(FILES)
    server.on("DELETE", f"/api/v1/versions/{MASTER_ID}", problem(409, "version-protected", "masters are kept"))
    with pytest.raises(ApiError, match="masters are kept"):
        server.client().versions.delete("bard@1")


def test_everybody_may_read_an_export_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        server_of(FILES).client().versions.export("bard@1", tmp_path / "exports" / "bard")
    finally:
        os.umask(before)
    made = list((tmp_path / "exports").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()} == {0o644}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()} == {0o755}


@pytest.mark.parametrize(
    ("left", "ranges"),
    [(b"0123456789" * 30, ["bytes=300-"]), (b"another file's beginning", ["bytes=24-", None]), (b"x" * 2000, [None]), (b"", [None])],
)
def test_an_export_goes_on_with_what_an_earlier_one_left(tmp_path: Path, left: bytes, ranges: list[str | None]) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors.part").write_bytes(left)
    server = server_of(FILES)
    arrived: list[int] = []
    server.client().versions.export("bard@1", tmp_path, progress=arrived.append)
    assert contents(tmp_path) == EXPORTED
    assert [request.headers.get("range") for request in server.requests if request.url.path == WEIGHTS] == ranges
    assert sum(arrived) == 1002


def test_a_card_of_an_earlier_export_is_replaced_and_nobody_elses(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"an older card. {CARD_MARK}")
    server_of(FILES).client().versions.export("bard@1", tmp_path)
    assert contents(tmp_path) == EXPORTED
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ExportRefused, match=r"README\.md"):
        server_of(FILES).client().versions.export("bard@1", tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_version_with_a_card_of_its_own_keeps_it(tmp_path: Path) -> None:
    server_of(OWN).client().versions.export("bard@1", tmp_path)
    assert contents(tmp_path) == OWN
