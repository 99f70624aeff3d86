"""The command itself: what it refuses, how it exits, and its plugins."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import httpx
import pytest
import typer

from factories.client import (
    URL,
    FakeServer,
    failing,
    problem,
)
from factories.command import run
from quantry.cli import plugins


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "jobs list --status nonsense",
        "jobs submit import --model A/B --source /m",
        "jobs submit quantize --base bard",
        "jobs submit quantize --base bard --calibration plays --option damping=7",
        "jobs submit quantize --base bard --calibration plays --option damping",
        "jobs submit quantize --base bard --calibration plays --group-size wide",
        "jobs submit quantize --base bard --calibration plays --override o_proj",
        "jobs submit quantize --base bard --calibration plays --threshold speed=1",
        "jobs submit quantize --base bard --method rtn --calibration plays",
        "jobs submit quantize --base bard --method magic",
        "jobs submit evaluate --version bard",
        "jobs submit evaluate --version bard --corpus plays --threshold perplexity=low",
        "jobs submit recalibrate --dataset a --corpus b",
        "jobs submit import --model bard --source /m --priority 11",
        "datasets upload plays /no/such/file",
        "keys create --name a/b",
        "models show ..",
        "--url nonsense models list",
        "config set-profile a --url http://x --key-file /no/such/file",
        f"config set-profile a --url http://x --key-file {sys.executable}",
    ],
)
def test_what_is_not_right_is_a_usage_error_and_reaches_no_server(
    server: FakeServer, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert run(*line.split()) == 2
    assert server.requests == []
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err or captured.out


def test_a_refusal_says_why_and_exits_with_1(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    errors = [{"field": "spec.base", "message": "is quantized already"}]
    server.on("POST", "/api/v1/jobs", problem(422, "invalid-input", "that cannot be quantized", errors=errors))
    assert run("jobs", "submit", "quantize", "--base", "bard@2", "--calibration", "plays") == 1
    assert capsys.readouterr().err.splitlines() == ["quantry: that cannot be quantized", "spec.base: is quantized already"]


def test_no_server_exits_with_3(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", "/api/v1/jobs", failing(httpx.ConnectError))
    assert run("jobs", "list") == 3
    err = capsys.readouterr().err.splitlines()
    assert URL in err[0]
    assert len(err) == 2


def test_no_key_names_the_places(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    monkeypatch.setenv("QUANTRY_STATE_DIR", str(tmp_path))
    for name in ("QUANTRY_URL", "QUANTRY_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert run("jobs", "list") == 2
    err = capsys.readouterr().err
    assert "QUANTRY_API_KEY" in err
    assert "client.json" in err


def test_a_plugin_adds_commands_and_a_broken_one_costs_only_a_warning(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        importlib.metadata.EntryPoint("good", "unit_client_plugin:register", plugins.PLUGIN_GROUP),
        importlib.metadata.EntryPoint("broken", "no_such_module:register", plugins.PLUGIN_GROUP),
    ]

    def register(app: typer.Typer) -> None:
        @app.command("greet")
        def greet() -> None:
            typer.echo("hello")

    def load(entry: importlib.metadata.EntryPoint) -> object:
        if entry.name == "good":
            return register
        raise ModuleNotFoundError("no_such_module")

    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", load)
    assert run("greet") == 0
    captured = capsys.readouterr()
    assert captured.out == "hello\n"
    assert "broken" in captured.err


def test_ctrl_c_exits_with_130(server: FakeServer) -> None:
    def interrupt(_request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.on("GET", "/api/v1/jobs", interrupt)
    assert run("jobs", "list") == 130
