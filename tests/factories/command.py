"""The command, run in this process."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import typer

from quantry.cli import main as command
from quantry.cli import plugins

_build_app = command.build_app


def build_once() -> Any:
    """Stands in for ``build_app``: returns the command, made once for all tests because that takes a tenth of a second. Plugins are
    added to a new one."""
    return _build_app() if plugins.plugins() else _without_plugins()


@cache
def _without_plugins() -> Any:
    return typer.main.get_command(_build_app())


def run(*arguments: str) -> int:
    """Returns the exit code of the command with these arguments."""
    return command.main(arguments)


def check_both_ways(capsys: pytest.CaptureFixture[str], line: str, words: list[str]) -> None:
    """Runs a command for people, who are told ``words``, and with --json for programs, which can read what it prints."""
    assert run(*line.split()) == 0
    out = capsys.readouterr().out
    for word in words:
        assert word in out
    assert run(*line.split(), "--json") == 0
    json.loads(capsys.readouterr().out)
