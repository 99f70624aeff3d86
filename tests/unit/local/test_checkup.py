"""What the doctor says of the embedded stack on this machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from quantry.checkup.findings import Level
from quantry.cli.plugins import plugin_checks
from quantry_local import checkup
from quantry_local.installation import Installation


def installation(folder: Path, *, is_built: bool) -> Installation:
    python = folder / "python"
    if is_built:
        python.touch(mode=0o755)
    return Installation(folder, python, python, python, folder / "serve.py", gptqmodel_python=python)


@pytest.mark.parametrize(("is_built", "level", "word"), [(True, Level.OK, "gptqmodel"), (False, Level.WARN, "not built: ml, engine-cpu")])
def test_environments(tmp_path: Path, is_built: bool, level: Level, word: str) -> None:
    (found,) = checkup.look_at_environments(installation(tmp_path, is_built=is_built))
    assert (found.level, word in found.message) == (level, True)


def stack_of(*parts: SimpleNamespace) -> object:
    return lambda _options: SimpleNamespace(status=lambda: list(parts))


def test_parts_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    well, away = (SimpleNamespace(name=name, state="RUNNING", is_ready=name == "api") for name in ("api", "deploy"))
    monkeypatch.setattr(checkup, "Stack", stack_of(well))
    assert [one.level for one in checkup.look_at_parts(tmp_path)] == [Level.OK]
    monkeypatch.setattr(checkup, "Stack", stack_of(well, away))
    (found,) = checkup.look_at_parts(tmp_path)
    assert (found.level, found.message) == (Level.FAIL, "deploy is running and does not answer")


@pytest.mark.parametrize(("is_free", "level"), [(True, Level.OK), (False, Level.WARN)])
def test_the_port_of_a_stack_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_free: bool, level: Level) -> None:
    monkeypatch.setattr(checkup, "Stack", stack_of())
    monkeypatch.setattr(checkup, "is_free", lambda _port: is_free)
    monkeypatch.setattr(checkup, "holder", lambda _port: " by nginx (pid 7)")
    (found,) = checkup.look_at_parts(tmp_path)
    assert found.level is level
    assert ("nginx" in found.message) is not is_free


def test_the_command_finds_these_looks() -> None:
    assert {check.name for check in plugin_checks()} == {"environments", "parts"}
