"""What the shell offers: names from the server, briefly asked for, and nothing at all where something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import typer

from factories.client import JOB_ID, FakeServer, answer, dataset, failing, job, page, problem
from factories.command import run
from quantry.cli.main import build_app

SHELLS = {"bash": "complete_bash", "zsh": "complete_zsh", "fish": "complete_fish"}
MODEL = {"id": "mod_1", "project_id": "prj_1", "name": "bard-6m", "num_versions": 1, "created_at": "2026-11-22T12:00:00Z"}


def offered(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shell: str = "bash") -> list[str]:
    """Returns what the shell is told when Tab is pressed at the end of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_QUANTRY_COMPLETE", SHELLS[shell])
    monkeypatch.setenv("COMP_WORDS", "\n".join(words) if shell == "bash" else line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    run()
    return [found for found in capsys.readouterr().out.split("\n") if found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("quantry jo", ["jobs"]),
        ("quantry jobs show ", [JOB_ID]),
        ("quantry jobs show job_x", []),
        ("quantry models show bard", ["bard-6m"]),
        ("quantry versions show ba", ["bard-6m"]),
        ("quantry jobs submit quantize --base ba", ["bard-6m"]),
        ("quantry jobs submit quantize --calibration pl", ["plays", "plays@1"]),
        ("quantry datasets preview pl", ["plays", "plays@1"]),
    ],
)
def test_names_are_those_of_the_server(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    server.on("GET", "/api/v1/jobs", page(job()))
    server.on("GET", "/api/v1/datasets", page(dataset()))
    server.on("GET", "/api/v1/models", answer({"data": [MODEL | {"aliases": [], "kinds": {}}]}))
    assert offered(line, capsys, monkeypatch) == expected


@pytest.mark.parametrize("fault", [failing(httpx.ConnectError), failing(httpx.ReadTimeout), problem(401, "unauthorized", "no")])
def test_where_the_server_does_not_answer_nothing_is_offered_and_nothing_said(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: httpx.Response
) -> None:
    server.on("GET", "/api/v1/jobs", fault)  # type: ignore[arg-type]  # the parameters are answers
    assert offered("quantry jobs show ", capsys, monkeypatch) == []
    assert capsys.readouterr().err == ""
    assert len(server.requests) == 1, "a shell is not kept waiting by retries"
    assert server.slept_s == []


def test_without_a_key_nothing_is_offered(server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    assert offered("quantry --profile nobody jobs show ", capsys, monkeypatch) == []
    assert offered("quantry --profile ", capsys, monkeypatch) == []
    assert server.requests == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_own_form(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    server.on("GET", "/api/v1/jobs", page(job()))
    assert any(JOB_ID in line for line in offered("quantry jobs show ", capsys, monkeypatch, shell))


@pytest.mark.parametrize(
    ("shell", "file"), [("bash", ".bashrc"), ("zsh", ".zfunc/_quantry"), ("fish", ".config/fish/completions/quantry.fish")]
)
def test_it_is_installed_for_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str, file: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, f"/bin/{shell}"))
    (tmp_path / ".zshrc").touch()
    assert run("--install-completion") == 0
    assert "quantry" in (tmp_path / file).read_text()
    assert shell in capsys.readouterr().out
    assert run("--show-completion") == 0
    script = capsys.readouterr().out
    assert "_QUANTRY_COMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)  # noqa: S607


def test_every_argument_that_names_a_thing_offers_it() -> None:
    things = {"MODEL", "REF", "JOB", "JOB...", "DEPLOYMENT", "PIPELINE", "SCHEDULE", "WEBHOOK", "LEFT", "PROFILE"}
    numbers = {"deployments diff", "config set-profile"}
    silent = [
        f"{path} {parameter.metavar}"
        for path, command in leaves(typer.main.get_command(build_app()), [])
        for parameter in command.params
        if getattr(parameter, "metavar", None) in things and path not in numbers and parameter._custom_shell_complete is None
    ]
    assert silent == []


def leaves(command: object, path: list[str]) -> list[tuple[str, typer.core.TyperCommand]]:
    """Returns every command that does something, with its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(" ".join(path), command)]  # type: ignore[list-item]  # whatever has no commands is one
    return [leaf for name, one in inner.items() for leaf in leaves(one, [*path, name])]


def test_asking_takes_no_longer_than_a_shell_waits(tmp_path: Path) -> None:
    """As a process of its own, at an address where nothing answers."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **{"_QUANTRY_COMPLETE": "complete_bash", "COMP_WORDS": "quantry\njobs\nshow\n", "COMP_CWORD": "3"},
        **{"QUANTRY_URL": "http://127.0.0.1:9", "QUANTRY_API_KEY": "qtr_k", "XDG_CONFIG_HOME": str(tmp_path)},
    }
    command = [sys.executable, "-m", "quantry.cli.main"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, cwd=tmp_path, check=False)
    assert (ended.stdout.strip(), ended.stderr) == ("", "")
