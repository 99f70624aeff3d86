"""``quantry jobs submit`` and ``jobs estimate``: what may be said beside the spec."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from factories.client import JOB_ID, MASTER_ID, FakeServer, answer, failing, job, problem
from quantry.cli import main as command
from quantry_core.jobs import Estimate, EstimateFigures, ImportSpec, JobReason, JobResult, JobStatus

IMPORT = ["jobs", "submit", "import", "--model", "bard", "--source", "/m"]
ESTIMATE = Estimate(
    key="quantize/gptq/cpu",
    queue="cpu",
    result_bytes=4_552_456,
    peak_ram_bytes=720_000_000,
    minutes=0.25,
    uncorrected=EstimateFigures(result_bytes=4_552_456, peak_ram_bytes=600_000_000, minutes=0.5),
    corrections={"peak_ram_bytes": 1.2, "minutes": 0.5},
    num_earlier_jobs=7,
    notes=["device memory is not needed on cpu"],
)


def run(*arguments: str) -> int:
    return command.main(arguments)


def sent(server: FakeServer) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(server.requests[0].content)
    return document


def test_every_option_reaches_the_server(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    options = (
        f"--priority 2 --resource gpu --queue gpu-80g --time-limit 2h --memory-limit 16GiB --not-before 2026-12-24T17:00Z "
        f"--label team=search --label nightly= --metadata ticket=4711 --need {JOB_ID} --force --idempotency-key monday"
    )
    assert run(*IMPORT, *options.split()) == 0
    document = sent(server)
    assert document.pop("spec")["type"] == "import"
    assert document == {
        "priority": 2,
        "resource": "gpu",
        "queue": "gpu-80g",
        "limits": {"time_s": 7200, "memory_bytes": 16 * 1024**3},
        "not_before": "2026-12-24T17:00:00Z",
        "labels": {"team": "search", "nightly": ""},
        "metadata": {"ticket": 4711},
        "needs": [JOB_ID],
        "force": True,
    }
    assert server.requests[0].headers["idempotency-key"] == "monday"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--time-limit 0", "is no duration"),
        ("--time-limit 31d", "--time-limit: Input should be less than or equal to 2592000"),
        ("--memory-limit 16GB", "is no size"),
        ("--memory-limit 1MiB", "--memory-limit: Input should be greater than or equal to 16777216"),
        ("--not-before tomorrow", "is no time"),
        ("--label team", "--label 'team': key=value"),
        ("--label team=a/b", "'a/b' cannot be the value"),
        ("--metadata x", "key=json"),
        ("--need bard", "--need: String should match pattern"),
        ("--queue TPU", "--queue: String should match pattern"),
        ("--resource tpu", "tpu"),
        ("--priority 10", "less than or equal to 9"),
    ],
)
def test_what_cannot_be_is_a_usage_error_and_reaches_no_server(
    server: FakeServer, capsys: pytest.CaptureFixture[str], options: str, words: str
) -> None:
    assert run(*IMPORT, *options.split()) == 2
    assert server.requests == []
    # The box around it breaks lines.
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert words in told


@pytest.mark.parametrize("line", ["jobs submit {} --estimate", "jobs submit {} --dry-run --wait", "jobs estimate {}"])
def test_an_estimate_submits_nothing(server: FakeServer, capsys: pytest.CaptureFixture[str], line: str) -> None:
    server.on("POST", "/api/v1/jobs/estimate", answer(ESTIMATE))
    arguments = line.format("quantize --base bard --calibration plays --priority 3").split()
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    for words in ("cpu", "4.6 MB", "720.0 MB", "15 s", "corrected by 7 earlier jobs (quantize/gptq/cpu)", "not needed on cpu"):
        assert words in out
    assert "device memory   " not in out
    assert sent(server)["priority"] == 3
    assert run(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == ESTIMATE.model_dump(mode="json")
    assert {request.url.path for request in server.requests} == {"/api/v1/jobs/estimate"}


def test_an_estimate_of_what_is_not_there_is_refused(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs/estimate", problem(404, "unknown-model", "there is no model 'nobody'"))
    assert run(*["jobs", "estimate", "quantize", "--base", "nobody", "--calibration", "plays"]) == 1
    assert "there is no model 'nobody'" in capsys.readouterr().err


def test_a_version_that_is_there_already_is_told(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    reused = job(JobStatus.SUCCEEDED, reason=JobReason.COMPLETED, result=JobResult(version_id=MASTER_ID, reused=True))
    server.on("POST", "/api/v1/jobs", answer(reused, 201))
    assert run(*IMPORT) == 0
    out = capsys.readouterr().out
    assert f"{MASTER_ID} was made by an identical job already" in out
    assert "--force" in out


def test_a_lost_answer_says_how_to_submit_once_only(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", failing(httpx.ReadTimeout))
    assert run(*IMPORT) == 3
    assert f"--idempotency-key {server.requests[0].headers['idempotency-key']}" in capsys.readouterr().err


def test_the_sdk_takes_the_same_words(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    with server.client() as client:
        client.jobs.submit(ImportSpec(model="bard", source="/m"), time_limit_s=60, labels={"a": "b"}, needs=[JOB_ID])
    assert sent(server)["limits"] == {"time_s": 60, "memory_bytes": None}
    assert sent(server)["labels"] == {"a": "b"}
    assert sent(server)["needs"] == [JOB_ID]


def test_retrying_a_job(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", f"/api/v1/jobs/{JOB_ID}/retry", answer(job(id="job_" + "2" * 32, retry_of=JOB_ID), 201))
    assert run("jobs", "retry", JOB_ID) == 0
    assert f"a retry of {JOB_ID}" in capsys.readouterr().out
    assert run("jobs", "retry", JOB_ID, "--json") == 0
    assert json.loads(capsys.readouterr().out)["retry_of"] == JOB_ID


def test_listing_by_labels(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/api/v1/jobs", answer({"data": [], "has_more": False}))
    assert run("jobs", "list", "--label", "team=search,!draft", "--queue", "cpu", "--status", "queued") == 0
    assert dict(server.requests[0].url.params) == {"limit": "20", "labels": "team=search,!draft", "queue": "cpu", "status": "queued"}
    assert run("jobs", "list", "--label", "two words") == 2
    assert len(server.requests) == 1
    capsys.readouterr()
