"""What cannot be is told in one sentence that says what to do."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from quantry_local.errors import StackError
from quantry_local.folders import choose_folders
from quantry_local.installation import Installation, find_installation
from quantry_local.ports import choose_ports
from quantry_local.stack import explain


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full (/s/file); make room, or choose another disk with --state-dir"),
        (errno.EROFS, "/s/file may not be written (Read-only file system); choose a directory you own with --state-dir"),
        (errno.EACCES, "/s/file may not be written (Permission denied); choose a directory you own with --state-dir"),
    ],
)
def test_errors_of_the_operating_system(number: int, sentence: str) -> None:
    assert str(explain(OSError(number, os.strerror(number), "/s/file"), Path("/s"))) == sentence


def test_an_unforeseen_error_points_to_the_logs() -> None:
    assert str(explain(OSError(errno.EIO, "Input/output error"), Path("/s"))).endswith("see /s/logs")


def test_a_missing_environment_names_the_command_that_builds_it(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch(mode=0o755)
    (tmp_path / "serve.py").touch()
    complete = Installation(tmp_path, python, python, python, tmp_path / "serve.py")
    complete.check()
    missing = Installation(tmp_path, python, python, tmp_path / "nowhere", tmp_path / "serve.py")
    with pytest.raises(StackError, match=r"engine-cpu is not built.*environments\.py build engine-cpu"):
        missing.check()
    with pytest.raises(StackError, match="complete checkout"):
        Installation(tmp_path, python, python, python, tmp_path / "gone.py").check()


def test_paths_of_environments_can_be_set() -> None:
    found = find_installation({"QUANTRY_ML_PYTHON": "/ml/python", "QUANTRY_ENGINE_PYTHON": "/engine/python"})
    assert (found.ml_python, found.engine_python) == (Path("/ml/python"), Path("/engine/python"))
    assert find_installation({}).examples.is_dir()
    optional = find_installation({"QUANTRY_LLAMA_CPP_PYTHON": sys.executable, "QUANTRY_GPTQMODEL_PYTHON": "/nowhere/python"})
    assert (optional.llama_cpp_python, optional.gptqmodel_python) == (Path(sys.executable), None)


def test_a_port_that_this_account_may_not_use_is_not_called_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_address: tuple[str, int]) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("quantry_local.ports.socket.create_server", refuse)
    with pytest.raises(StackError, match="port 80 is kept for privileged programs"):
        choose_ports(None, 80)


def test_a_loop_of_links_is_no_state_directory(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(StackError, match="loop"):
        choose_folders(loop).make()
