"""What jobs left: listed, and fetched with every byte checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from factories.client import JOB_ID, FakeServer, Pieces, answer
from factories.command import check_both_ways, run
from quantry import DownloadDamaged
from quantry_core.versions import ManifestFile

RESULTS = {"results.json": b'{"perplexity": 7.5}', "plays/windows.jsonl": b'{"nll": 1.5}\n' * 40}
ARTIFACTS = f"/api/v1/jobs/{JOB_ID}/artifacts"
FILES = [ManifestFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in RESULTS.items()]


def bytes_of(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, stream=Pieces(RESULTS[request.url.path.removeprefix(f"{ARTIFACTS}/")]))


@pytest.fixture
def job_server(server: FakeServer) -> FakeServer:
    """A server with a job that left two files."""
    server.on("GET", ARTIFACTS, answer({"data": [file.model_dump() for file in FILES]}))
    for path in RESULTS:
        server.on("GET", f"{ARTIFACTS}/{path}", bytes_of)
    return server


def test_they_are_listed(job_server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert job_server.client().jobs.artifacts(JOB_ID) == FILES
    check_both_ways(capsys, f"jobs artifacts {JOB_ID}", ["results.json", "19 B", FILES[1].sha256])


def test_all_of_them_are_fetched(job_server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    check_both_ways(capsys, f"jobs download {JOB_ID} {tmp_path / 'out'}", ["2 files", "digests checked"])
    assert {path: (tmp_path / "out" / path).read_bytes() for path in RESULTS} == RESULTS


def test_one_of_them_is_fetched(job_server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("jobs", "download", JOB_ID, str(tmp_path), "results.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(tmp_path / "results.json")]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert run("jobs", "download", JOB_ID, str(tmp_path), "other.json") == 2
    assert "results.json, plays/windows.jsonl" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_wrong_bytes_are_refused(job_server: FakeServer, tmp_path: Path) -> None:
    job_server.on("GET", f"{ARTIFACTS}/results.json", lambda _request: httpx.Response(200, stream=Pieces(b"x" * FILES[0].size_bytes)))
    with pytest.raises(DownloadDamaged, match=r"results\.json"):
        job_server.client().jobs.download_artifact(JOB_ID, FILES[0], tmp_path / "results.json")
    assert list(tmp_path.iterdir()) == []
