"""What the commands print for programs, and what they say when a signal ends them: that all is stopped only where they stopped it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from quantry_local.commands import down, register, status, up
from quantry_local.installation import Installation
from quantry_local.interrupts import Interrupted
from quantry_local.stack import PartStatus, Stack, Up
from quantry_local.supervisor_rpc import SupervisorRpc


def interrupting(*_arguments: object, **_options: object) -> None:
    raise Interrupted(signal.SIGINT)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Installation, "check", lambda _self: None)
    monkeypatch.setattr(SupervisorRpc, "is_up", lambda _self: False)
    monkeypatch.setattr(Stack, "_stop", lambda _self: False)


def said(command: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 128 + signal.SIGINT
    return capsys.readouterr().err.strip()


def test_an_interrupted_start_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Stack, "_start", interrupting)
    assert said(lambda: up(tmp_path), capsys) == "quantry: interrupted; nothing was left running"


def test_a_stack_that_was_up_is_not_said_to_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SupervisorRpc, "is_up", interrupting)
    assert said(lambda: up(tmp_path), capsys) == "quantry: interrupted"
    assert said(lambda: status(tmp_path), capsys) == "quantry: interrupted"


def test_every_command_takes_json() -> None:
    app = typer.Typer()
    register(app)
    root: Any = typer.main.get_command(app)
    groups = [one for one in root.commands.values() if hasattr(one, "commands")]
    leaves = [one for group in (root, *groups) for one in group.commands.values() if one not in groups]
    assert len(leaves) == 9
    assert [one.name for one in leaves if not any("--json" in parameter.opts for parameter in one.params)] == []


def test_a_program_reads_one_document_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(stack: Stack) -> Up:
        stack._say("postgres    0.1 s")
        return Up("http://127.0.0.1:1", {"api": "http://127.0.0.1:2"}, was_up=False, new_admin_key="qtr_new")

    monkeypatch.setattr(Stack, "_start", start)
    up(tmp_path, as_json=True)
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["url"], document["new_admin_key"], document["was_up"]) == ("http://127.0.0.1:1", "qtr_new", False)
    assert captured.err == "postgres    0.1 s\n"
    down(tmp_path, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"state_dir": str(tmp_path), "was_up": False}


@pytest.mark.parametrize(("is_ready", "exit_code"), [(True, 0), (False, 1)])
def test_the_status_for_programs_has_the_same_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_ready: bool, exit_code: int
) -> None:
    monkeypatch.setattr(Stack, "status", lambda _self: [PartStatus("api", "RUNNING", 7, 3, "http://127.0.0.1:2", is_ready)])
    app = typer.Typer()
    app.command()(status)
    with pytest.raises(SystemExit) as ended:
        app(["--state-dir", str(tmp_path), "--json"])
    assert ended.value.code == exit_code
    part = {"name": "api", "state": "RUNNING", "pid": 7, "uptime_s": 3, "address": "http://127.0.0.1:2", "is_ready": is_ready}
    assert json.loads(capsys.readouterr().out)["parts"] == [part]
