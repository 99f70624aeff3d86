"""Uploads of a folder: refused here where the server would, sent file by file, and checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest

from factories.checkpoints import master_contents, write_checkpoint
from factories.client import NOW, FakeServer, answer, failing, job
from quantry.cli.main import main
from quantry.errors import UploadDamaged, UploadRefused
from quantry_core.uploads import Upload
from quantry_core.versions import ManifestFile

UPLOAD_ID = "upl_0197f0a0000070008000000000000001"


class UploadServer(FakeServer):
    """Takes uploads as the registry does."""

    def __init__(self) -> None:
        super().__init__()
        self.received: dict[str, bytes] = {}
        self.on("POST", "/api/v1/uploads", self.show)
        self.on("GET", f"/api/v1/uploads/{UPLOAD_ID}", self.show)
        for path in master_contents():
            self.on("PUT", f"/api/v1/uploads/{UPLOAD_ID}/files/{path}", self.take)

    def show(self, request: httpx.Request) -> httpx.Response:
        """Answers with the upload as it is now."""
        return answer(self.upload(), 201 if request.method == "POST" else 200)(request)

    def upload(self) -> Upload:
        """Returns the upload with what has arrived."""
        files = [manifest_file(path, content) for path, content in sorted(self.received.items())]
        return Upload(id=UPLOAD_ID, project_id="prj_1", created_at=NOW, expires_at=NOW, files=files)

    def take(self, request: httpx.Request) -> httpx.Response:
        """Takes one file."""
        path = request.url.path.partition("/files/")[2]
        self.received[path] = request.read()
        assert request.headers["content-length"] == str(len(self.received[path]))
        return answer(manifest_file(path, self.received[path]))(request)


def manifest_file(path: str, content: bytes) -> ManifestFile:
    return ManifestFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_a_folder_is_sent_whole_and_hidden_files_are_not(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", master_contents())
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    server = UploadServer()
    sent: list[int] = []
    upload = server.client().uploads.send(folder, progress=sent.append)
    assert server.received == master_contents()
    assert upload.source == f"upload:{UPLOAD_ID}"
    assert sum(sent) == upload.size_bytes == sum(map(len, master_contents().values()))


def test_a_file_whose_answer_was_lost_is_sent_again_from_its_beginning(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", master_contents())
    server = UploadServer()
    server.on("PUT", f"/api/v1/uploads/{UPLOAD_ID}/files/model.safetensors", failing(httpx.ReadError), server.take)
    sent: list[int] = []
    server.client().uploads.send(folder, progress=sent.append)
    assert server.received == master_contents()
    assert sum(sent) == sum(map(len, master_contents().values()))


def test_other_bytes_than_were_sent_are_noticed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tiny", master_contents())
    server = UploadServer()
    server.on("PUT", f"/api/v1/uploads/{UPLOAD_ID}/files/config.json", answer(manifest_file("config.json", b"other")))
    with pytest.raises(UploadDamaged, match=r"config\.json was stored with"):
        server.client().uploads.send(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer__json": None}, "no tokenizer"),
        ({"pytorch_model__bin": b"x"}, "pickled"),
        ({"model__safetensors": b"\x10"}, "model.safetensors"),
    ],
)
def test_what_is_no_master_is_refused_before_anything_is_sent(tmp_path: Path, changes: dict[str, bytes | None], words: str) -> None:
    folder = write_checkpoint(tmp_path / "tiny", master_contents(**changes))
    server = UploadServer()
    with pytest.raises(UploadRefused, match=words):
        server.client().uploads.send(folder)
    assert server.requests == []


def submitted(server: FakeServer) -> dict[str, object]:
    (request,) = [request for request in server.requests if request.url.path == "/api/v1/jobs"]
    spec = httpx.Response(200, content=request.read()).json()["spec"]
    assert isinstance(spec, dict)
    return spec


@pytest.mark.parametrize("source", ["hf:owner/name@main", "s3:models/tiny", f"upload:{UPLOAD_ID}"])
def test_the_command_imports_from_elsewhere(server: FakeServer, source: str) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert main(["import", "bard", source]) == 0
    assert submitted(server) == {"type": "import", "model": "bard", "source": source}


def test_a_directory_of_the_server_is_only_meant_where_it_is_said(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "bard", "/srv/models/bard"]) == 2
    assert "--on-server" in capsys.readouterr().err
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert main(["import", "bard", "/srv/models/bard", "--on-server"]) == 0
    assert submitted(server)["source"] == "/srv/models/bard"


@pytest.mark.parametrize("command", [["import", "bard"], ["models", "upload", "bard"]])
def test_a_directory_here_is_uploaded_and_imported(
    monkeypatch: pytest.MonkeyPatch, server: FakeServer, tmp_path: Path, command: list[str]
) -> None:
    folder = write_checkpoint(tmp_path / "tiny", master_contents())
    receiving = UploadServer()
    receiving.requests = server.requests
    receiving.on("POST", "/api/v1/jobs", answer(job(), 201))
    monkeypatch.setattr("quantry.cli.context.Client", receiving.client)
    assert main([*command, str(folder)]) == 0
    assert receiving.received == master_contents()
    assert submitted(server)["source"] == f"upload:{UPLOAD_ID}"
