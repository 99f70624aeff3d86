"""Curves and checkpoints of training jobs, as the command shows them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from factories.client import JOB_ID, NOW, FakeServer, Pieces, answer, problem
from factories.command import check_both_ways, run
from quantry_core.jobs import CurvePoint, JobCheckpoint, JobCurve
from quantry_core.versions import ManifestFile

JOB = f"/api/v1/jobs/{JOB_ID}"
CONTENTS = {"adapter_model.safetensors": b"tensors" * 9, "optimizer.pt": b"moments"}
FILES = [ManifestFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in CONTENTS.items()]
STEP = f"{JOB}/checkpoints/20/files"


def checkpoint(step: int, attempt: int = 1, *, has_files: bool = True) -> JobCheckpoint:
    return JobCheckpoint(
        job_id=JOB_ID, step=step, attempt=attempt, size_bytes=2_500_000, metrics={"loss": 2.31415}, has_files=has_files, created_at=NOW
    )


def bytes_of(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, stream=Pieces(CONTENTS[request.url.path.removeprefix(f"{STEP}/")]))


def point(step: int, **values: float) -> CurvePoint:
    return CurvePoint(step=step, attempt=1, values=values, created_at=NOW)


@pytest.fixture
def trained(server: FakeServer) -> FakeServer:
    """A server with a job that trained for forty steps."""
    points = [point(step, loss=3.0 / step, learning_rate=2e-4) for step in range(1, 41)] + [point(41, eval_loss=0.25)]
    server.on("GET", f"{JOB}/curve", answer(JobCurve(job_id=JOB_ID, num_points=41, data=points)))
    rows = [checkpoint(40), checkpoint(20), checkpoint(10, 0, has_files=False)]
    server.on("GET", f"{JOB}/checkpoints", answer({"data": [row.model_dump(mode="json") for row in rows]}))
    server.on("GET", STEP, answer({"data": [file.model_dump() for file in FILES]}))
    for path in CONTENTS:
        server.on("GET", f"{STEP}/{path}", bytes_of)
    return server


def test_a_curve_is_drawn(trained: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    check_both_ways(capsys, f"jobs curve {JOB_ID}", ["loss: 0.075 at step 40", "eval_loss: 0.25 at step 41", "learning_rate: 0.0002"])
    assert trained.requests[0].url.params["max_points"] == "1000"
    assert run("jobs", "curve", JOB_ID, "--metric", "learning_rate", "--max-points", "7") == 0
    out = capsys.readouterr().out
    assert "learning_rate" in out
    assert "eval_loss" not in out
    assert trained.requests[-1].url.params["max_points"] == "7"


def test_a_curve_fits_the_terminal(trained: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    assert run("jobs", "curve", JOB_ID) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_a_metric_that_was_not_measured_is_refused_by_name(trained: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("jobs", "curve", JOB_ID, "--metric", "kl") == 2
    assert "loss, learning_rate, eval_loss" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_job_that_measured_nothing_says_so(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{JOB}/curve", answer(JobCurve(job_id=JOB_ID, num_points=0, data=[])))
    check_both_ways(capsys, f"jobs curve {JOB_ID}", ["has measured nothing so far"])


def test_checkpoints_are_listed(trained: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["40", "an earlier job's", "2.5 MB", "kept", "gone", "loss 2.314"]
    check_both_ways(capsys, f"jobs checkpoints {JOB_ID}", words)


def test_a_checkpoint_is_fetched(trained: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    check_both_ways(capsys, f"jobs checkpoints {JOB_ID} --download 20 --to {tmp_path / 'out'}", ["step 20: 2 files", "digests checked"])
    assert {path: (tmp_path / "out" / path).read_bytes() for path in CONTENTS} == CONTENTS


def test_a_step_without_files_is_told(trained: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trained.on("GET", f"{JOB}/checkpoints/10/files", problem(404, "not-found", "no files of step 10 are kept"))
    assert run("jobs", "checkpoints", JOB_ID, "--download", "10", "--to", str(tmp_path)) == 1
    assert "no files of step 10 are kept" in capsys.readouterr().err


def test_a_download_needs_step_and_directory(trained: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("jobs", "checkpoints", JOB_ID, "--download", "20") == 2
    assert "give both, or neither" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_json_of_a_curve_is_the_curve(trained: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("jobs", "curve", JOB_ID, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["num_points"], document["data"][0]["values"]) == (41, {"loss": 3.0, "learning_rate": 2e-4})
