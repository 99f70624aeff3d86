"""Commands about work: jobs, waiting for them, pipelines, workers, the project."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from factories.client import (
    JOB_ID,
    MASTER_ID,
    NOW,
    PIPELINE_ID,
    FakeServer,
    answer,
    event,
    event_stream,
    job,
    page,
    pipeline,
    step,
    succeeded,
)
from factories.command import check_both_ways, run
from quantry_core.jobs import EventKind, JobReason, JobStatus
from quantry_core.methods import Environment
from quantry_core.projects import Project, ProjectLimits
from quantry_core.workers import Device, Worker

JOB = f"/api/v1/jobs/{JOB_ID}"
PIPELINE = pipeline(step("import", JobStatus.SUCCEEDED))

WORKER_ID = "wrk_" + "1" * 32

WORKER = Worker(
    id=WORKER_ID,
    host="gpu-host",
    pid=7,
    version="0.1.0",
    queues=["cpu", "gpu-80g"],
    num_slots=2,
    environments={Environment.ML: "a" * 64},
    devices=[Device(id="0", name="H200", memory_bytes=150_000_000_000)],
    is_alive=True,
    job_ids=[JOB_ID],
    started_at=NOW,
    last_seen_at=NOW,
)

PROJECT = Project(
    id="prj_1",
    name="default",
    created_at=datetime(2026, 11, 23, tzinfo=UTC),
    limits=ProjectLimits(max_running=4),
    num_waiting=1,
    num_queued=9,
    num_running=3,
)


def test_waiting_for_a_job_that_succeeds(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    server.on("GET", JOB, answer(succeeded()))
    server.on(
        "GET",
        f"{JOB}/events",
        event_stream(
            event(1, EventKind.STATE, status="running", reason=None, message=None),
            event(2, EventKind.PROGRESS, phase="copy [x]", fraction=0.10, detail="file 1"),
            event(3, EventKind.PROGRESS, phase="copy [x]", fraction=0.12, detail="file 2"),
            event(4, EventKind.PROGRESS, phase="copy [x]", fraction=0.55, detail="file 3"),
            event(5, EventKind.LOG, text="noise"),
            event(6, EventKind.NOTE, text="[bold] is no markup"),
            event(7, EventKind.STATE, status="succeeded", reason="completed", message=None),
        ),
    )
    assert run("jobs", "submit", "import", "--model", "bard", "--source", "/m", "--wait") == 0
    out = capsys.readouterr().out
    assert "copy [x]  10% file 1" in out
    assert "file 2" not in out
    assert "copy [x]  55% file 3" in out
    assert "[bold] is no markup" in out
    assert "noise" not in out
    assert out.splitlines()[-1] == f"{JOB_ID} succeeded in 1.2 s: {MASTER_ID}"


def test_ctrl_c_says_that_the_job_goes_on_where_only_json_is_printed(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    server.on("GET", f"{JOB}/events", interrupt)
    server.on("GET", JOB, interrupt)
    assert run("jobs", "submit", "import", "--model", "bard", "--source", "/m", "--wait", "--json") == 130
    assert capsys.readouterr() == ("", f"{JOB_ID} goes on. To stop it: quantry jobs cancel {JOB_ID}\n")


def test_watching_a_job_that_fails(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{JOB}/events", event_stream(event(1, EventKind.STATE, status="failed", reason="gate_failed", message="bad")))
    server.on("GET", JOB, answer(job(JobStatus.FAILED, reason=JobReason.GATE_FAILED, message="perplexity rose by 9%")))
    assert run("jobs", "watch", JOB_ID) == 1
    err = capsys.readouterr().err
    assert f"{JOB_ID} failed (gate_failed): perplexity rose by 9%" in err
    assert f"quantry jobs logs {JOB_ID}" in err


def test_watching_for_programs(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    events = [event(1, EventKind.NOTE, text="ä"), event(2, EventKind.STATE, status="failed", reason="internal")]
    server.on("GET", f"{JOB}/events", event_stream(*events))
    server.on("GET", JOB, answer(job(JobStatus.FAILED)))
    assert run("jobs", "watch", JOB_ID, "--json") == 1
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [item.model_dump(mode="json") for item in events]


def test_on_a_terminal_a_bar_is_shown_and_notes_scroll_by(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    server.on("GET", JOB, answer(succeeded()))
    server.on(
        "GET",
        f"{JOB}/events",
        event_stream(
            event(1, EventKind.PROGRESS, phase="[copy]", fraction=0.42, detail="file 1"),
            event(2, EventKind.NOTE, text="[red]a note"),
            event(3, EventKind.STATE, status="succeeded"),
        ),
    )
    assert run("jobs", "watch", JOB_ID) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert "[red]a note" in out
    assert "42%" in out
    assert "succeeded in 1.2 s" in out


def test_submitting_and_waiting_for_programs_prints_the_job_alone(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    server.on("GET", JOB, answer(succeeded()))
    assert run("jobs", "submit", "import", "--model", "bard", "--source", "/m", "--wait", "--json") == 0
    assert json.loads(capsys.readouterr().out) == succeeded().model_dump(mode="json")


def prepare(server: FakeServer) -> None:
    server.on("GET", "/api/v1/jobs", page(job(), has_more=True))
    server.on("GET", JOB, answer(job()))
    server.on("POST", f"{JOB}/cancel", answer(job(JobStatus.CANCELLED)))
    server.on("GET", f"{JOB}/log", lambda _request: httpx.Response(200, text="line\n"))
    server.on("GET", "/api/v1/pipelines", page(PIPELINE))
    server.on("GET", "/api/v1/workers", page(WORKER))
    server.on("GET", "/api/v1/project", answer(PROJECT))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("jobs list", [JOB_ID, "import", "queued", "bard <- /models/bard"]),
        (f"jobs show {JOB_ID}", [JOB_ID, "attempt", '"source":"/models/bard"']),
        (f"jobs cancel {JOB_ID}", [f"{JOB_ID} cancelled"]),
        (f"jobs logs {JOB_ID} --tail 5", ["line"]),
        ("pipelines list", ["compare", "succeeded", "1 succeeded", PIPELINE_ID]),
        ("workers list", [WORKER_ID, "gpu-host pid 7", "there", "cpu, gpu-80g", "1 of 2 busy", "0 H200 150.0 GB", "ml"]),
        ("project show", ["default", "3 of at most 4", "9", "1"]),
    ],
)
def test_every_command_speaks_to_people_and_to_programs(
    server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, words: list[str]
) -> None:
    prepare(server)
    check_both_ways(capsys, line.format(out=tmp_path / "out"), words)


def test_a_longer_list_says_how_to_go_on(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(server)
    assert run("jobs", "list", "--limit", "1") == 0
    assert f"--after {JOB_ID}" in capsys.readouterr().err
