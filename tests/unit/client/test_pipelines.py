"""Pipelines: the SDK, the commands, and how a graph of steps is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from rich.tree import Tree

from factories.client import NOW, PIPELINE_ID, FakeServer, answer, failing, page, pipeline, problem, step, step_id
from quantry import WaitTimedOut, read_pipeline
from quantry.cli import main as command
from quantry.cli.pipeline_view import StepLines, step_tree
from quantry.config import Connection
from quantry.resources.pipelines import Pipelines
from quantry.transport import Transport
from quantry_core.jobs import Job, JobReason, JobStatus, Progress, WaitingOn
from quantry_core.pipelines import PipelineDetail

PATH = "/api/v1/pipelines"
ONE = f"{PATH}/{PIPELINE_ID}"
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "pipelines" / "compare-group-sizes.yaml"


def half_done() -> PipelineDetail:
    return pipeline(
        step("take", JobStatus.SUCCEEDED),
        step("small", JobStatus.RUNNING, ["take"], progress=Progress(phase="quantize", fraction=0.4, done=2, total=5, unit="layers")),
        step("large", JobStatus.QUEUED, ["take"]),
        step("measure", JobStatus.WAITING, ["small", "large", "take"], waiting_on=WaitingOn.NEEDS),
        step("serve", JobStatus.WAITING, ["measure"], waiting_on=WaitingOn.NEEDS),
    )


def over(last: JobStatus = JobStatus.SUCCEEDED) -> PipelineDetail:
    reason = {JobStatus.FAILED: JobReason.TIMED_OUT, JobStatus.SUCCEEDED: JobReason.COMPLETED}[last]
    return pipeline(
        step("take", JobStatus.SUCCEEDED, finished_at=NOW),
        step("measure", last, ["take"], reason=reason, finished_at=NOW.replace(minute=3)),
    )


def run(*arguments: str) -> int:
    return command.main(arguments)


def names(trees: Iterable[Tree]) -> list[tuple[str, list[object]]]:
    """Returns a tree of step names."""
    return [(str(tree.label).split()[0], list(names(tree.children))) for tree in trees]


def test_a_step_hangs_under_its_last_need() -> None:
    tree = step_tree(half_done())
    assert names(tree.children) == [("take", [("small", [("measure", [("serve", [])])]), ("large", [])])]
    assert "2 waiting, 1 queued, 1 running, 1 succeeded" in str(tree.label)


def test_each_step_says_what_it_needs_and_where_it_is() -> None:
    [take] = step_tree(half_done()).children
    small, large = take.children
    [measure] = small.children
    assert "quantize  40% 2/5 layers" in str(small.label)
    assert "needs" not in str(small.label)
    assert "queued" in str(large.label)
    assert "for the jobs it needs  needs small, large, take" in str(measure.label)
    assert step_id("measure") in str(measure.label)


def test_a_need_outside_the_pipeline_is_named() -> None:
    alone: Job = step("alone", JobStatus.QUEUED, ["elsewhere"])
    [leaf] = step_tree(pipeline(alone)).children
    assert f"needs {step_id('elsewhere')}" in str(leaf.label)


def test_lines_tell_only_what_is_new() -> None:
    def running(fraction: float) -> PipelineDetail:
        return pipeline(step("small", JobStatus.RUNNING, progress=Progress(phase="quantize", fraction=fraction)))

    lines = StepLines()
    assert lines.lines(running(0.40)) == ["small running quantize  40%"]
    assert lines.lines(running(0.45)) == []
    assert lines.lines(running(0.51)) == ["small running quantize  51%"]
    failed = pipeline(step("small", JobStatus.FAILED, reason=JobReason.DIVERGED, message="layer 3 is not finite"))
    assert lines.lines(failed) == ["small failed (diverged) layer 3 is not finite"]
    assert lines.lines(failed) == []


def test_submitting_the_example(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", PATH, failing(httpx.ReadError), problem(503, "unavailable", "away"), answer(half_done(), 201))
    assert run("pipelines", "submit", str(EXAMPLE)) == 0
    assert f"{PIPELINE_ID} 5 jobs; follow it: quantry pipelines watch {PIPELINE_ID}" in capsys.readouterr().out
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    document = json.loads(server.requests[-1].content)
    assert document["steps"]["deploy"]["needs"] == ["evaluate-32", "evaluate-64", "evaluate-128"]
    assert document["steps"]["import"]["spec"]["source"] == str(EXAMPLE.parents[1] / "bard-6m")


def test_submitting_for_programs(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", PATH, answer(half_done(), 201))
    server.on("GET", ONE, answer(over()))
    assert run("pipelines", "submit", str(EXAMPLE), "--json", "--idempotency-key", "monday") == 0
    assert json.loads(capsys.readouterr().out) == half_done().model_dump(mode="json")
    assert server.requests[0].headers["idempotency-key"] == "monday"
    assert run("pipelines", "submit", str(EXAMPLE), "--json", "--watch") == 0
    assert json.loads(capsys.readouterr().out) == over().model_dump(mode="json")
    server.on("GET", ONE, answer(half_done()), answer(half_done()), answer(over()))
    assert run("pipelines", "watch", PIPELINE_ID, "--json") == 0
    changes = [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()]
    assert changes == [half_done().status, over().status]


def test_watching_in_lines(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", PATH, answer(half_done(), 201))
    server.on("GET", ONE, answer(half_done()), answer(half_done()), answer(over()))
    assert run("pipelines", "submit", str(EXAMPLE), "--watch") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1:6] == [
        "take succeeded",
        "small running quantize  40% 2/5 layers",
        "large queued",
        "measure waiting for the jobs it needs",
        "serve waiting for the jobs it needs",
    ]
    assert out[-1] == f"{PIPELINE_ID} succeeded after 3 min: 2 succeeded"
    assert server.slept_s == [1.0, 1.0]


@pytest.mark.usefixtures("terminal")
def test_watching_on_a_terminal_and_a_failure(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", ONE, answer(half_done()), answer(over(JobStatus.FAILED)))
    assert run("pipelines", "watch", PIPELINE_ID) == 1
    captured = capsys.readouterr()
    assert "└── " in captured.out
    assert "(timed_out) The job took longer than it may." in captured.out
    assert f"The log of measure: quantry jobs logs {step_id('measure')}" in captured.err


def test_ctrl_c_says_that_the_pipeline_goes_on(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.on("GET", ONE, answer(half_done()), interrupt)
    assert run("pipelines", "watch", PIPELINE_ID) == 130
    assert f"{PIPELINE_ID} goes on. To stop it: quantry pipelines cancel {PIPELINE_ID}" in capsys.readouterr().err


def test_show_cancel_and_retry(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", ONE, answer(half_done()))
    server.on("POST", f"{ONE}/cancel", failing(httpx.ReadError), answer(half_done()))
    server.on("POST", f"{ONE}/retry", failing(httpx.ReadError), answer(half_done()))
    for action in ("show", "cancel", "retry"):
        assert run("pipelines", action, PIPELINE_ID) == 0
        assert "2 waiting, 1 queued, 1 running, 1 succeeded" in capsys.readouterr().out
        assert run("pipelines", action, PIPELINE_ID, "--json") == 0
        assert json.loads(capsys.readouterr().out) == half_done().model_dump(mode="json")


def test_a_bad_file_is_a_usage_error_and_reaches_no_server(server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nsteps:\n  one:\n    spec: {type: bake}\n    prioriti: 3\n")
    assert run("pipelines", "submit", str(path)) == 2
    err = capsys.readouterr().err
    assert f"{path}:4: steps.one.spec: the type is none of" in err
    assert f"{path}:5: steps.one.prioriti: there is no such field; did you mean priority?" in err
    assert run("pipelines", "submit", str(tmp_path / "none.yaml")) == 2
    assert server.requests == []


def timed_pipelines(server: FakeServer) -> Pipelines:
    """Returns pipelines whose clock moves only by sleeping."""
    transport = Transport(
        Connection(url="http://quantry.test", api_key="k"),
        timeout_s=1,
        transport=httpx.MockTransport(server.handle),
        sleep=server.slept_s.append,
    )
    return Pipelines(transport, clock_s=lambda: sum(server.slept_s))


def test_waiting(server: FakeServer) -> None:
    server.on("GET", ONE, answer(half_done()), answer(over()))
    assert timed_pipelines(server).wait(PIPELINE_ID, timeout_s=60) == over()
    server.on("GET", ONE, answer(half_done()))
    with pytest.raises(WaitTimedOut, match=rf"pipeline {PIPELINE_ID} is still running after 2\.5 s"):
        timed_pipelines(server).wait(PIPELINE_ID, timeout_s=2.5)


def test_the_sdk_lists_and_submits(server: FakeServer) -> None:
    server.on("GET", PATH, page(half_done(), has_more=True))
    server.on("POST", PATH, answer(half_done(), 201))
    with server.client() as client:
        assert client.pipelines.list(limit=1).has_more
        assert client.pipelines.submit(read_pipeline(EXAMPLE)).id == PIPELINE_ID
