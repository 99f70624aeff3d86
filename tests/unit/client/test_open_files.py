"""Files that are passed on as they come."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from quantry import Client
from quantry.errors import DownloadDamaged, ServerUnreachable, UnknownFile
from quantry_core.versions import ManifestFile, VersionDetail

CONTENT = b"some weights"
VERSION = VersionDetail.model_validate(
    {
        "id": "ver_1",
        "project_id": "prj_1",
        "model_id": "mod_1",
        "model_name": "bard",
        "number": 1,
        "kind": "master",
        "state": "ready",
        "format": "safetensors",
        "scheme": None,
        "dtype": "float16",
        "manifest_digest": "0" * 64,
        "size_bytes": 12,
        "weights_bytes": 12,
        "job_id": "job_1",
        "attempt": 1,
        "recipe": {},
        "toolchain": {},
        "created_at": "2026-11-22T12:00:00Z",
        "files": [ManifestFile(path="a/b.json", size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())],
        "edges": [],
        "evidence": [],
    }
)


class Broken(httpx.SyncByteStream):
    def __iter__(self):  # type: ignore[no-untyped-def]
        yield CONTENT[:4]
        raise httpx.ReadError("gone")


def client_of(answer: httpx.Response) -> Client:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/versions/ver_1":
            return httpx.Response(200, content=VERSION.model_dump_json())
        assert request.url.path == "/api/v1/versions/ver_1/files/a/b.json"
        return answer

    return Client("http://127.0.0.1:1", "qtr_key", transport=httpx.MockTransport(handle), sleep=lambda _s: None)


def test_the_bytes_come_as_they_are() -> None:
    with client_of(httpx.Response(200, stream=httpx.ByteStream(CONTENT))) as client, client.versions.file("ver_1", "a/b.json") as opened:
        assert opened.file.path == "a/b.json"
        assert b"".join(opened.pieces) == CONTENT


def test_other_bytes_are_refused_at_their_end() -> None:
    with (
        client_of(httpx.Response(200, stream=httpx.ByteStream(b"some thing"))) as client,
        client.versions.file("ver_1", "a/b.json") as opened,
        pytest.raises(DownloadDamaged, match=r"a/b\.json"),
    ):
        list(opened.pieces)


def test_what_breaks_off_says_so() -> None:
    with client_of(httpx.Response(200, stream=Broken())) as client, client.versions.file("ver_1", "a/b.json") as opened:
        pieces = opened.pieces
        with pytest.raises(ServerUnreachable, match="breaks off"):
            list(pieces)


def test_a_file_that_is_not_there_is_not_asked_for() -> None:
    with (
        client_of(httpx.Response(500)) as client,
        pytest.raises(UnknownFile, match=r"bard@1 has no file '../key'"),
        client.versions.file("ver_1", "../key"),
    ):
        pass
