"""The command, run in this process."""

from __future__ import annotations

import json

import pytest

from quantry.cli import main as command


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
