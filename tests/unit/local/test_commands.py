"""What a command says when a signal ends it: that all is stopped only where it stopped it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from quantry_local.commands import status, up
from quantry_local.installation import Installation
from quantry_local.interrupts import Interrupted
from quantry_local.stack import Stack
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
