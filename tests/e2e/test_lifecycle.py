"""``quantry up``, ``status`` and ``down`` as a person types them, and what a kill -9 of the process manager leaves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories.directories import short_directory
from factories.servers import free_port
from quantry import Client
from quantry_local.folders import choose_folders
from quantry_local.leftovers import end_processes, find_processes

QUANTRY = Path(sys.executable).parent / "quantry"
UP_TIMEOUT_S = 180
STOP_LIMIT_S = 15.0


class CommandLine:
    """Runs ``quantry`` on one state directory."""

    def __init__(self, home: Path) -> None:
        # Characters that a database address, a shell and a configuration file read in their own ways.
        self.state_dir = home / "a stack+more&all"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRY_")}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(words), env=self._environment, capture_output=True, text=True, check=False, timeout=UP_TIMEOUT_S
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command(words), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [str(QUANTRY), *words, "--state-dir", str(self.state_dir)]


TEXT = "In the beginning God created the heaven and the earth. And the earth was without form."


@pytest.fixture
def quantry() -> Iterator[CommandLine]:
    home = short_directory("quantry-e2e-")
    # Open enough for the account that runs Postgres for root: its sockets then lie below this odd path too.
    home.chmod(0o711)
    command_line = CommandLine(home)
    yield command_line
    end_processes(command_line.state_dir)
    for path in (home, *choose_folders(command_line.state_dir).outside):
        shutil.rmtree(path, ignore_errors=True)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    seen = ""
    while words not in seen:
        line = process.stdout.readline()
        assert line, f"the command ended before it said {words!r}:\n{seen}"
        seen += line
    return seen


def stop_with_sigterm(process: subprocess.Popen[str]) -> tuple[str, float]:
    """Returns what the command said at its end, and how many seconds it took."""
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=3 * STOP_LIMIT_S)
    return said, time.monotonic() - started


def test_a_stack_lives_through_up_kill_up_and_down(quantry: CommandLine, tmp_path: Path) -> None:
    port = free_port()
    first = quantry.run("up", "--port", str(port))
    assert first.returncode == 0, first.stdout + first.stderr
    url = f"http://127.0.0.1:{port}"
    key = re.search(r"shown this once: (qtr_\S+)", first.stdout)
    assert key is not None
    assert stat.S_IMODE((quantry.state_dir / "client.json").stat().st_mode) == 0o600
    (tmp_path / "text.txt").write_text(TEXT)
    with Client(url, key[1]) as client:
        client.datasets.upload("kept", tmp_path / "text.txt")

    again = quantry.run("up")
    assert again.returncode == 0
    assert f"Quantry is already up at {url}" in again.stdout
    assert "qtr_" not in again.stdout
    assert quantry.run("status").returncode == 0

    supervisord = int((quantry.state_dir / "supervisor" / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    before = {process.pid for process in find_processes(quantry.state_dir)}
    assert len(before) > 8
    foreground = quantry.start("up", "--foreground")
    said = read_until(foreground, "Ctrl-C stops everything")
    assert "left over" in said
    assert f"Quantry is up at {url}" in said
    assert "qtr_" not in said
    assert not before & {process.pid for process in find_processes(quantry.state_dir)}
    with Client(url, key[1]) as client:
        assert client.datasets.get("kept").size_bytes == len(TEXT)

    _, seconds = stop_with_sigterm(foreground)
    assert foreground.returncode == 0
    assert seconds < STOP_LIMIT_S
    assert find_processes(quantry.state_dir) == []
    assert quantry.run("status").returncode == 1
    assert "Nothing is running" in quantry.run("down").stdout


def test_a_start_that_is_interrupted_leaves_nothing(quantry: CommandLine) -> None:
    starting = quantry.start("up", "--port", str(free_port()))
    read_until(starting, "redis")
    said, seconds = stop_with_sigterm(starting)
    assert starting.returncode == 128 + signal.SIGTERM
    assert "interrupted" in said
    assert seconds < STOP_LIMIT_S
    assert find_processes(quantry.state_dir) == []


def test_a_part_that_cannot_start_is_named_with_its_log_and_nothing_is_left(quantry: CommandLine) -> None:
    # A data folder without data.
    (choose_folders(quantry.state_dir).postgres_home / "data").mkdir(parents=True)
    failed = quantry.run("up", "--port", str(free_port()))
    assert failed.returncode == 1
    log = quantry.state_dir / "logs" / "postgres.log"
    assert re.search(rf"quantry: postgres ended while it started: .+; its log is {re.escape(str(log))}", failed.stderr)
    assert find_processes(quantry.state_dir) == []
