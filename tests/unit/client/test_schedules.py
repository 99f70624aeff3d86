"""Schedules in the SDK and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factories.client import JOB_ID, NOW, FakeServer, answer, page, problem
from quantry import FileRefused
from quantry.cli import main as command
from quantry.schedule_files import read_schedule
from quantry_core.schedules import (
    JobTemplate,
    MissedPolicy,
    OverlapPolicy,
    PipelineTemplate,
    RunOutcome,
    Schedule,
    SchedulePreview,
    ScheduleRun,
)

SCHEDULE_ID = "sch_0197f0a0000070008000000000000001"
URL = "/api/v1/schedules"
SCHEDULE_URL = f"{URL}/{SCHEDULE_ID}"

PIPELINE_FILE = """\
name: two
steps:
  first: {spec: {type: import, model: bard, source: models/bard}}
  second: {spec: {type: evaluate, version: "output:first", corpora: [tales]}}
"""
JOB_FILE = """\
spec: {type: import, model: bard, source: ../bard}
priority: 7
"""
SCHEDULE_FILE = """\
name: nightly
cron: "30 2 * * *"
time_zone: Europe/Berlin
overlap: queue
template:
  kind: pipeline
  submission:
    name: two
    steps:
      first: {spec: {type: import, model: bard, source: models/bard}}
      second: {spec: {type: evaluate, version: "output:first", corpora: [tales]}}
"""


def run(*arguments: str) -> int:
    return command.main(arguments)


def schedule(**changes: Any) -> Schedule:
    values: dict[str, Any] = {
        "id": SCHEDULE_ID,
        "project_id": "prj_1",
        "name": "nightly",
        "cron": "30 2 * * *",
        "time_zone": "Europe/Berlin",
        "template": {"kind": "job"},
        "overlap": OverlapPolicy.SKIP,
        "missed": MissedPolicy.RUN_ONCE,
        "is_paused": False,
        "next_run_at": NOW,
        "next_runs": ["2026-11-23T02:30:00+01:00", "2026-11-24T02:30:00+01:00"],
        "last_run": schedule_run(),
        "created_at": NOW,
    }
    return Schedule.model_validate(values | changes)


def schedule_run(**changes: Any) -> ScheduleRun:
    values: dict[str, Any] = {
        "id": "run_1",
        "schedule_id": SCHEDULE_ID,
        "due_at": NOW,
        "fired_at": NOW,
        "outcome": RunOutcome.FIRED,
        "job_id": JOB_ID,
    }
    return ScheduleRun.model_validate(values | changes)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with one file of each kind."""
    for name, text in (("schedule.yaml", SCHEDULE_FILE), ("job.yaml", JOB_FILE), ("pipeline.yaml", PIPELINE_FILE)):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_file_is_a_whole_schedule(server: FakeServer, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", URL, answer(schedule(), 201))
    assert run("schedules", "create", str(files / "schedule.yaml"), "--idempotency-key", "k-1") == 0
    body = json.loads(server.requests[0].content)
    assert (body["name"], body["time_zone"], body["overlap"], body["missed"]) == ("nightly", "Europe/Berlin", "queue", "run_once")
    assert body["template"]["submission"]["steps"]["first"]["spec"]["source"] == str(files / "models/bard")
    assert server.requests[0].headers["idempotency-key"] == "k-1"
    assert f"{SCHEDULE_ID} nightly: next run" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "kind"), [("--job", JobTemplate), ("--pipeline", PipelineTemplate)])
def test_options_make_one_too(server: FakeServer, files: Path, option: str, kind: type[JobTemplate] | type[PipelineTemplate]) -> None:
    server.on("POST", URL, answer(schedule(is_paused=True, next_run_at=None), 201))
    file = files / f"{option.removeprefix('--')}.yaml"
    options = "--name nightly --time-zone Europe/Berlin --overlap cancel_previous --missed run_all --paused"
    assert run("schedules", "create", "--cron", "@ 1 * * *", *options.split(), option, str(file)) == 0
    body = json.loads(server.requests[0].content)
    template = kind.model_validate(body.pop("template"))
    assert body == {
        "name": "nightly",
        # Whether that is a cron expression is for the server to say.
        "cron": "@ 1 * * *",
        "time_zone": "Europe/Berlin",
        "overlap": "cancel_previous",
        "missed": "run_all",
        "is_paused": True,
    }
    if isinstance(template, JobTemplate):
        assert template.submission.priority == 7
        assert template.submission.spec.model_dump()["source"] == str(files.parent / "bard")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--name", "nightly", "--cron", "* * * * *"],
        ["--name", "nightly", "--cron", "* * * * *", "--job", "job.yaml", "--pipeline", "pipeline.yaml"],
        ["schedule.yaml", "--cron", "* * * * *"],
        ["schedule.yaml", "--paused"],
        ["schedule.yaml", "--overlap", "skip"],
        ["schedule.yaml", "--missed", "skip"],
        ["schedule.yaml", "--time-zone", "UTC"],
        ["nothing.yaml"],
        ["--name", "No Name", "--cron", "* * * * *", "--job", "job.yaml"],
    ],
)
def test_what_the_command_cannot_use(server: FakeServer, files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(files)
    assert run("schedules", "create", *arguments) == 2
    assert server.requests == []


def test_a_file_with_mistakes_names_their_lines(files: Path) -> None:
    path = files / "schedule.yaml"
    path.write_text(SCHEDULE_FILE.replace("overlap: queue", "overlap: sometimes").replace("corpora: [tales]", "corpus: [tales]"))
    with pytest.raises(FileRefused) as refused:
        read_schedule(path)
    problems = {(found.line, found.field) for found in refused.value.problems}
    assert (4, "overlap") in problems
    assert (11, "template.submission.steps.second.spec.corpus") in problems


def test_a_refusal_is_shown(server: FakeServer, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", URL, problem(422, "bad-cron", "it never fires", errors=[{"field": "cron", "message": "it never fires"}]))
    assert run("schedules", "create", str(files / "schedule.yaml")) == 1
    assert "cron: it never fires" in capsys.readouterr().err


def test_list_and_show(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    paused = schedule(name="weekly", is_paused=True, next_run_at=None, next_runs=[], last_run=None)
    server.on("GET", URL, page(schedule(), paused))
    assert run("schedules", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "nightly" in lines[1] and "fired" in lines[1]
    assert "weekly" in lines[2] and "paused" in lines[2]
    server.on("GET", SCHEDULE_URL, answer(schedule()), answer(paused))
    assert run("schedules", "show", SCHEDULE_ID) == 0
    text = capsys.readouterr().out
    assert "2026-11-23 02:30:00+01:00" in text and "30 2 * * * (Europe/Berlin)" in text and JOB_ID in text
    assert run("schedules", "show", SCHEDULE_ID) == 0
    assert "paused" in capsys.readouterr().out


def test_pause_and_resume_send_that_alone(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("PATCH", SCHEDULE_URL, answer(schedule(is_paused=True)), answer(schedule()))
    assert run("schedules", "pause", SCHEDULE_ID) == 0
    assert run("schedules", "resume", SCHEDULE_ID) == 0
    assert [json.loads(request.content) for request in server.requests] == [{"is_paused": True}, {"is_paused": False}]
    assert "nightly: paused" in capsys.readouterr().out


def test_run_and_runs(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", f"{SCHEDULE_URL}/run", answer(schedule_run(is_manual=True), 201))
    assert run("schedules", "run", SCHEDULE_ID) == 0
    assert capsys.readouterr().out == f"run_1 fired {JOB_ID}\n"
    assert server.requests[0].headers["idempotency-key"]
    refused = schedule_run(outcome=RunOutcome.REFUSED, job_id=None, message="there is no model 'bard'")
    server.on("GET", f"{SCHEDULE_URL}/runs", page(schedule_run(is_manual=True), refused))
    assert run("schedules", "runs", SCHEDULE_ID, "--outcome", "refused", "--limit", "2") == 0
    assert dict(server.requests[-1].url.params) == {"limit": "2", "outcome": "refused"}
    text = capsys.readouterr().out
    assert "(by hand)" in text and "there is no model 'bard'" in text


def test_delete(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("DELETE", SCHEDULE_URL, answer({}, 204))
    assert run("schedules", "delete", SCHEDULE_ID, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": SCHEDULE_ID}


def test_preview(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    shown = SchedulePreview.model_validate(
        {"cron": "30 2 * * *", "time_zone": "Europe/Berlin", "next_runs": ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]}
    )
    server.on("POST", f"{URL}/preview", answer(shown))
    assert run("schedules", "preview", "30 2 * * *", "--time-zone", "Europe/Berlin", "--runs", "2") == 0
    assert json.loads(server.requests[0].content) == {"cron": "30 2 * * *", "time_zone": "Europe/Berlin", "num_runs": 2}
    assert capsys.readouterr().out == "2026-03-29 03:00:00+02:00\n2026-03-30 02:30:00+02:00\n"


@pytest.mark.parametrize("arguments", [["list"], ["show", SCHEDULE_ID], ["runs", SCHEDULE_ID], ["pause", SCHEDULE_ID]])
def test_json_is_what_the_server_said(server: FakeServer, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", URL, page(schedule()))
    server.on("GET", SCHEDULE_URL, answer(schedule()))
    server.on("GET", f"{SCHEDULE_URL}/runs", page(schedule_run()))
    server.on("PATCH", SCHEDULE_URL, answer(schedule()))
    assert run("schedules", *arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    expected = schedule_run() if arguments[0] == "runs" else schedule()
    assert (document["data"][0] if "data" in document else document) == expected.model_dump(mode="json")
