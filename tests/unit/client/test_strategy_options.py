"""How traffic moves: strategies by options and by file, and what of it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factories.client import FakeServer, answer, job
from factories.command import run
from quantry import FileProblem, FileRefused, read_strategy
from quantry_core.jobs import JobStatus
from quantry_core.strategies import CanaryStrategy, OnInconclusive

DEPLOY = ("deploy", "--deployment", "chat", "--version", "bard")

FILE = """
name: canary
steps:
  - {percent: 10, wait_s: 60}
  - {percent: 100, analysis: false}
analysis:
  min_requests: 50
  rules:
    - {rule: error_rate_compared, max_increase: 0.02}
    - {rule: latency_limit, metric: ttft, quantile: 0.9, max_s: 0.8}
on_inconclusive: roll_back
"""


def sent(server: FakeServer) -> dict[str, Any]:
    """Returns the spec of the last submission."""
    document: dict[str, Any] = json.loads(server.requests[-1].content)["spec"]
    return document


@pytest.fixture
def strategy(server: FakeServer) -> Any:
    """Submits with more options and returns the strategy that was sent."""
    server.on("POST", "/api/v1/jobs", answer(job(), 201))

    def submit(line: str) -> dict[str, Any]:
        assert run(*DEPLOY, *line.split()) == 0
        found: dict[str, Any] = sent(server)["strategy"]
        return found

    return submit


def test_a_canary_by_its_steps(strategy: Any) -> None:
    found = strategy("--strategy canary --steps 10:60s,50:2m:pause,100")
    assert found["name"] == "canary"
    assert found["steps"] == [
        {"percent": 10, "wait_s": 60.0, "analysis": True, "pause": False},
        {"percent": 50, "wait_s": 120.0, "analysis": True, "pause": True},
        {"percent": 100, "wait_s": 0.0, "analysis": False, "pause": False},
    ]
    assert [rule["rule"] for rule in found["analysis"]["rules"]] == ["error_rate_compared", "latency_compared"]
    steps = strategy("--strategy canary --steps 10:no-analysis,50:0,100:90:analysis")["steps"]
    assert [(step["analysis"], step["wait_s"]) for step in steps] == [(False, 0.0), (True, 0.0), (True, 90.0)]


def test_the_rules_of_an_analysis(strategy: Any) -> None:
    rules = "--rule error_rate_limit:max_rate=0.02 --rule latency_compared:metric=ttft,max_ratio=1.2"
    found = strategy(f"--strategy canary {rules} --min-requests 100 --deadline 30m --on-inconclusive roll_back")
    assert found["analysis"]["rules"] == [
        {"rule": "error_rate_limit", "max_rate": 0.02},
        {"rule": "latency_compared", "metric": "ttft", "quantile": 0.95, "max_ratio": 1.2},
    ]
    assert (found["analysis"]["min_requests"], found["step_timeout_s"], found["on_inconclusive"]) == (100, 1800.0, "roll_back")


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("--strategy immediate --max-surge 1 --max-unavailable 1", {"name": "immediate", "max_surge": 1, "max_unavailable": 1}),
        ("--strategy blue-green", {"name": "blue_green", "pause": False}),
        ("--strategy blue_green --hold", {"name": "blue_green", "pause": True}),
        ("--strategy ab --percent 30 --sticky-by header:X-Tenant", {"percent": 30, "sticky_by": "header", "header": "x-tenant"}),
        ("--strategy ab --sticky-by hash --deadline 2h", {"sticky_by": "hash", "header": None, "deadline_s": 7200.0}),
        ("--strategy shadow --percent 5 --max-tokens 1 --on-pass promote", {"percent": 5, "max_tokens": 1, "on_pass": "promote"}),
        ("--strategy shadow --max-disagreement 0.1 --max-logprob-divergence 0.2 --deadline 1h", {"max_disagreement": 0.1}),
        ("--max-surge 0 --max-unavailable 1", {"name": "immediate", "max_surge": 0}),
    ],
)
def test_every_strategy_by_options(strategy: Any, line: str, fields: dict[str, Any]) -> None:
    found = strategy(line)
    assert {name: found[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--strategy slow", "'slow' is no strategy: one of immediate, blue-green, canary, ab, shadow"),
        ("--strategy canary --steps 10,50", "the last step must have 100 percent, not 50"),
        ("--strategy canary --steps 50,10,100", "must grow from one to the next, not 50, 10, 100"),
        ("--strategy canary --steps 0,100", "--steps: Input should be greater than or equal to 1"),
        ("--strategy canary --steps ten,100", "--steps 'ten': a step is PERCENT[:WAIT][:pause][:no-analysis]"),
        ("--strategy canary --steps 10:soon,100", "--steps '10:soon': 'soon' is no duration"),
        ("--strategy canary --steps 10:60s:2m,100", "--steps '10:60s:2m': '2m' is one too many of its kind"),
        ("--strategy canary --steps 10:analysis:no-analysis,100", "'no-analysis' is one too many of its kind"),
        ("--strategy blue-green --steps 10,100", "--steps is of --strategy canary, not of blue-green"),
        ("--steps 10,100", "--steps is of --strategy canary, not of immediate"),
        ("--strategy canary --sticky-by user", "--sticky-by is of --strategy ab, not of canary"),
        ("--strategy ab --sticky-by header", "sticky_by 'header' and a header's name go together"),
        ("--strategy ab --sticky-by moon", "--sticky-by: Input should be"),
        ("--strategy canary --rule speed", "'speed' is none of error_rate_limit, latency_limit"),
        ("--strategy canary --rule shadow", "'shadow' is none of"),
        ("--strategy canary --rule latency_limit:2", "RULE[:FIELD=VALUE,...]"),
        ("--strategy canary --rule latency_limit", "--rule: Field required"),
        ("--strategy canary --rule latency_limit:max_s=2,max_s=9", "'max_s' is given twice"),
        ("--strategy canary --rule latency_compared:rule=error_rate_compared", "'rule' is given twice"),
        ("--strategy canary --rule latency_limit:max_s=2,mode=fast", "--rule: Extra inputs are not permitted"),
        ("--strategy immediate --max-surge 0", "no replica could ever be replaced"),
        ("--strategy shadow --percent 101", "--percent: Input should be less than or equal to 100"),
        ("--watch -5", "is no duration"),
        ("--min-replicas 2", "--min-replicas is of a deployment that is scaled: give --max-replicas too"),
        ("--min-replicas 3 --max-replicas 2", "min_replicas is 3 and max_replicas 2"),
        ("--max-replicas 2 --replicas 4", "replicas 4 is not within 1 and 2"),
        ("--server 127.0.0.1:8000", "--server: String should match"),
        ("--server http://a:1 --server http://a:1", "a server is named twice"),
        ("--engine triton", "'triton' is not one of"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_nothing_is_sent(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert run(*DEPLOY, *line.split()) == 2
    assert words in capsys.readouterr().err
    assert server.requests == []


def test_scaling_servers_engine_watch_and_note(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    scaled = "--min-replicas 2 --max-replicas 4 --target-waiting 3 --target-kv-use 0.7 --scale-down-after 2m --idle-after 1h"
    assert run(*DEPLOY, *scaled.split(), "--engine", "llama.cpp", "--num-gpus", "2", "--watch", "0", "--note", "faster kernels") == 0
    spec = sent(server)
    assert spec["scaling"] == {
        "min_replicas": 2,
        "max_replicas": 4,
        "target_waiting": 3.0,
        "target_kv_use": 0.7,
        "scale_down_after_s": 120.0,
        "idle_after_s": 3600.0,
    }
    assert (spec["replicas"], spec["engine"]["engine"], spec["engine"]["num_gpus"]) == (2, "llama.cpp", 2)
    assert (spec["watch_s"], spec["note"]) == (0.0, "faster kernels")
    assert "quantry rollouts follow chat" in capsys.readouterr().out
    assert run(*DEPLOY, "--server", "http://10.0.0.1:8000", "--server", "http://10.0.0.2:8000", "--watch", "10m") == 0
    assert (sent(server)["servers"], sent(server)["watch_s"]) == (["http://10.0.0.1:8000", "http://10.0.0.2:8000"], 600.0)
    assert run(*DEPLOY, "--min-replicas", "0", "--max-replicas", "2") == 0
    assert sent(server)["replicas"] == 1


def test_a_job_that_waits_for_another_rollout_is_watched_itself(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(JobStatus.WAITING), 201))
    assert run("jobs", "submit", *DEPLOY) == 0
    assert "quantry jobs watch job_" in capsys.readouterr().out


def test_a_strategy_by_file(strategy: Any, tmp_path: Path) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text(FILE)
    found = strategy(f"--strategy-file {path}")
    assert found == json.loads(read_strategy(path).model_dump_json())
    read = read_strategy(path)
    assert isinstance(read, CanaryStrategy)
    assert read.on_inconclusive is OnInconclusive.ROLL_BACK
    assert [rule.rule for rule in read.analysis.rules] == ["error_rate_compared", "latency_limit"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name: canary", "nam: canary", FileProblem(2, "", "a name is missing: one of immediate, blue_green, canary, ab, shadow")),
        ("name: canary", "name: slow", FileProblem(2, "", "the name is none of immediate, blue_green, canary, ab, shadow")),
        ("wait_s: 60", "wait: 60", FileProblem(4, "steps.0.wait", "there is no such field; did you mean wait_s?")),
        (
            "percent: 100",
            "percent: 90",
            FileProblem(2, "", "the last step must have 100 percent, not 90: a canary ends by serving everything"),
        ),
        (
            "max_increase: 0.02",
            "max_increase: 2",
            FileProblem(9, "analysis.rules.0.max_increase", "Input should be less than 1"),
        ),
        (
            "rule: latency_limit",
            "rule: shadow",
            FileProblem(
                10,
                "analysis.rules.1",
                "the rule is none of error_rate_limit, latency_limit, error_rate_compared, latency_compared, feedback_compared, "
                "prometheus_limit",
            ),
        ),
        ("min_requests: 50", "min_requests: many", FileProblem(7, "analysis.min_requests", "Input should be a valid integer")),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_line_and_field(tmp_path: Path, old: str, new: str, problem: FileProblem) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(FileRefused) as refused:
        read_strategy(path)
    [told] = refused.value.problems
    assert (told.line, told.field) == (problem.line, problem.field)
    assert told.message.startswith(problem.message)


def test_a_file_stands_alone(server: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text(FILE)
    assert run(*DEPLOY, "--strategy-file", str(path), "--steps", "10,100") == 2
    assert "--steps stands in the file of a whole strategy" in capsys.readouterr().err
    path.write_text(FILE.replace("percent: 10,", "percent: 0,"))
    assert run(*DEPLOY, "--strategy-file", str(path)) == 2
    assert f"{path}:4: steps.0.percent: Input should be greater than or equal to 1" in capsys.readouterr().err
    assert server.requests == []
