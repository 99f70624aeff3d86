"""Exports that check every byte, and uploads that can be repeated."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import pytest

from factories.client import MASTER_ID, NOW, Breaking, FakeServer, Pieces, answer, failing, problem, version
from quantry import ApiError, DownloadDamaged, ExportRefused, ServerUnreachable
from quantry_core.versions import Dataset

FILES = {"config.json": b"{}", "weights/model.safetensors": b"0123456789" * 100, "empty.txt": b""}
WEIGHTS = f"/api/v1/versions/{MASTER_ID}/files/weights/model.safetensors"


def bytes_of(request: httpx.Request) -> httpx.Response:
    data = FILES[request.url.path.partition("/files/")[2]]
    start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    return httpx.Response(206 if start else 200, stream=Pieces(data[start:]))


def server_of(files: dict[str, bytes]) -> FakeServer:
    server = FakeServer()
    server.on("GET", "/api/v1/versions/bard@1", answer(version(files)))
    for path in files:
        server.on("GET", f"/api/v1/versions/{MASTER_ID}/files/{path}", bytes_of)
    return server


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_holds_every_byte_and_nothing_else(tmp_path: Path) -> None:
    arrived: list[int] = []
    paths = server_of(FILES).client().versions.export("bard@1", tmp_path / "new", progress=arrived.append)
    assert contents(tmp_path / "new") == FILES
    assert sorted(paths) == sorted(tmp_path / "new" / name for name in FILES)
    assert sum(arrived) == 1002
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in paths)


def test_a_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    server = server_of(FILES)
    broken = httpx.Response(200, stream=Breaking(FILES["weights/model.safetensors"][:300]))
    server.on("GET", WEIGHTS, lambda _request: broken, failing(httpx.ReadError), bytes_of)
    server.client().versions.export("bard@1", tmp_path)
    assert contents(tmp_path) == FILES
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
    assert contents(tmp_path) == FILES
    assert [request.url.path.rpartition("/")[2] for request in again.requests] == ["bard@1", "config.json"]


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


def test_an_upload_sends_the_file_and_may_be_repeated(tmp_path: Path) -> None:
    text = "thé text\n".encode() * 50_000
    path = tmp_path / "plays.txt"
    path.write_bytes(text)
    dataset = Dataset(id="dat_1", project_id="prj_1", name="plays", number=1, sha256="0" * 64, size_bytes=len(text), created_at=NOW)
    server = FakeServer()
    received: list[bytes] = []

    def take(request: httpx.Request) -> httpx.Response:
        received.append(request.read())
        return answer(dataset, 201)(request)

    server.on("PUT", "/api/v1/datasets/plays", failing(httpx.WriteError), take)
    assert server.client().datasets.upload("plays", path) == dataset
    assert received == [text]
    assert server.requests[-1].headers["content-length"] == str(len(text))
    assert server.requests[-1].headers["content-type"] == "text/plain; charset=utf-8"
