"""What the demo takes for its own: only what it made is stopped or removed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from quantry_local import demo as demo_module
from quantry_local.demo import run_demo
from quantry_local.demo_steps import Demo, Report, Step, StepFailed
from quantry_local.errors import StackError
from quantry_local.interrupts import Interrupted
from quantry_local.stack import Stack


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A demo whose one step only writes a file. Returns the state directories that were stopped."""
    directories: list[Path] = []

    def down(stack: Stack) -> bool:
        directories.append(stack.folders.state_dir)
        return False

    monkeypatch.setattr(Stack, "down", down)
    monkeypatch.setattr(demo_module, "show_results", lambda _console, _demo: None)
    steps_are(monkeypatch, lambda: None)
    return directories


def steps_are(monkeypatch: pytest.MonkeyPatch, then: object) -> None:
    def run(demo: Demo, _report: Report) -> str:
        demo.stack.folders.state_dir.mkdir(parents=True, exist_ok=True)
        (demo.stack.folders.state_dir / "ports.json").write_text("{}")
        (demo.stack.folders.state_dir / "s3").mkdir()
        if isinstance(then, BaseException):
            raise then
        return "done"

    monkeypatch.setattr(demo_module, "STEPS", (Step("write", run),))


def console() -> Console:
    return Console(file=io.StringIO(), width=160)


def test_a_folder_with_anything_in_it_is_refused_and_left_as_it_was(tmp_path: Path, stopped: list[Path]) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "ports.json").write_text("of a stack that runs")
    with pytest.raises(StackError, match="is not empty"):
        run_demo(console(), tmp_path)
    assert (tmp_path / "ports.json").read_text() == "of a stack that runs"
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert stopped == []


def test_a_file_in_its_place_is_refused(tmp_path: Path, stopped: list[Path]) -> None:
    (tmp_path / "state").write_text("mine")
    with pytest.raises(StackError, match="is not empty"):
        run_demo(console(), tmp_path / "state")
    assert stopped == []


def test_only_the_folders_it_made_are_removed(tmp_path: Path, stopped: list[Path]) -> None:
    (tmp_path / "mine").mkdir()
    assert run_demo(console(), tmp_path / "mine" / "new" / "state").exit_code == 0
    assert stopped == [tmp_path / "mine" / "new" / "state"]
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_an_empty_folder_may_be_used_and_is_empty_again(tmp_path: Path, stopped: list[Path]) -> None:
    assert run_demo(console(), tmp_path).exit_code == 0
    assert stopped == [tmp_path]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_demo_keeps_what_it_wrote(tmp_path: Path, stopped: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    steps_are(monkeypatch, StepFailed("oops"))
    assert run_demo(console(), tmp_path / "state").exit_code == 1
    assert stopped == [tmp_path / "state"]
    assert (tmp_path / "state" / "ports.json").exists()


def test_an_interrupted_demo_says_that_it_stopped_everything(tmp_path: Path, stopped: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    steps_are(monkeypatch, Interrupted(2))
    with pytest.raises(Interrupted) as interrupted:
        run_demo(console(), tmp_path / "state")
    assert stopped == [tmp_path / "state"]
    assert interrupted.value.outcome == "nothing was left running"
