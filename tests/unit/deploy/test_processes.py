"""Engine processes: whose they are, how they ended, what they wrote, and how they are started."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from quantry_deploy.controller import is_stray
from quantry_deploy.drivers import logs
from quantry_deploy.drivers.processes import EngineProcess, ProcessTable

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    """A table over a directory of its own; what it started ends with the test."""
    table = ProcessTable(tmp_path)
    yield table
    table.end_all(within_s=5)


def spawn(table: ProcessTable, tmp_path: Path, code: str = SLEEP, replica_id: str = "rep_1") -> EngineProcess:
    command = [sys.executable, "-S", "-c", code]
    return table.spawn(replica_id, "http://127.0.0.1:9", command, {"PATH": os.defpath}, tmp_path / f"{replica_id}.log")


def wait_until_ended(table: ProcessTable, process: EngineProcess) -> None:
    while table.is_running(process.pid, process.started_at):
        os.sched_yield()


def test_a_started_engine_is_known_again_by_its_environment(table: ProcessTable, tmp_path: Path) -> None:
    process = spawn(table, tmp_path)
    assert ProcessTable(tmp_path).leader("rep_1") == process
    assert ProcessTable(tmp_path / "other").leader("rep_1") is None
    assert table.leader("rep_2") is None
    assert table.pids() == {"rep_1": {process.pid}}
    assert ProcessTable(tmp_path).ports() == {9}
    assert os.getpgid(process.pid) == process.pid


def test_a_started_engine_is_known_though_its_environment_came_late(
    table: ProcessTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel lets the parent go on a moment before the new environment can be read."""
    read = psutil.Process.environ
    left = {"num_empty": 3}

    def environ(process: psutil.Process) -> dict[str, str]:
        if process.ppid() != os.getpid() or left["num_empty"] == 0:
            return read(process)
        left["num_empty"] -= 1
        return {}

    monkeypatch.setattr(psutil.Process, "environ", environ)
    process = spawn(table, tmp_path)
    assert table.leader("rep_1") == process
    assert left["num_empty"] == 0


def test_a_reused_process_id_is_not_the_engine(table: ProcessTable, tmp_path: Path) -> None:
    process = spawn(table, tmp_path)
    assert table.is_running(process.pid, process.started_at)
    assert not table.is_running(process.pid, process.started_at - 60)
    table.terminate(process.pid, process.started_at - 60)
    assert table.is_running(process.pid, process.started_at)


def test_an_engine_with_a_reused_process_id_is_told_from_who_had_it_before(
    table: ProcessTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = spawn(table, tmp_path)
    before = psutil.Process(process.pid)
    monkeypatch.setattr(before, "_create_time", 1.0)
    monkeypatch.setattr(before, "_ident", (process.pid, 1.0))
    monkeypatch.setattr("psutil._pmap", {process.pid: before})
    assert table.leader("rep_1") == process
    table.kill("rep_1")
    assert not table.is_running(process.pid, process.started_at)


def test_how_an_engine_ended_is_told(table: ProcessTable, tmp_path: Path) -> None:
    crashed = spawn(table, tmp_path, "raise SystemExit(3)")
    wait_until_ended(table, crashed)
    assert table.ending(crashed.pid) == "ended with exit status 3"
    asked = spawn(table, tmp_path, replica_id="rep_2")
    table.terminate(asked.pid, asked.started_at)
    wait_until_ended(table, asked)
    assert table.ending(asked.pid) == "was ended by SIGTERM"
    killed = spawn(table, tmp_path, replica_id="rep_3")
    table.kill("rep_3")
    wait_until_ended(table, killed)
    assert table.ending(killed.pid) == "was ended by SIGKILL, as the kernel does when memory runs out"
    assert ProcessTable(tmp_path).ending(killed.pid) == "ended"


def test_what_ended_and_was_told_is_forgotten(table: ProcessTable, tmp_path: Path) -> None:
    crashed = spawn(table, tmp_path, "raise SystemExit(3)")
    other = spawn(table, tmp_path, "raise SystemExit(4)", replica_id="rep_2")
    for process in (crashed, other):
        wait_until_ended(table, process)
    table.pids()
    assert table.ending(crashed.pid) == "ended with exit status 3"
    table.kill("rep_1")
    assert table.ending(crashed.pid) == "ended"
    assert table.ending(other.pid) == "ended with exit status 4"
    # One that was killed just now is remembered until it has been reaped.
    running = spawn(table, tmp_path)
    table.kill("rep_1")
    wait_until_ended(table, running)
    table.pids()
    assert table.ending(running.pid) == "ended"


def test_all_end_together_the_stubborn_ones_by_force(table: ProcessTable, tmp_path: Path) -> None:
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); {SLEEP}"
    process = spawn(table, tmp_path, stubborn)
    while logs.tail(tmp_path / "rep_1.log") != "set":
        os.sched_yield()
    spawn(table, tmp_path, replica_id="rep_2")
    table.end_all(within_s=0.2)
    assert table.pids() == {}
    assert not table.is_running(process.pid, process.started_at)


def test_only_engines_of_the_directory_are_killed_as_strays(table: ProcessTable, tmp_path: Path) -> None:
    process = spawn(table, tmp_path)
    ProcessTable(tmp_path / "other").kill_only([process.pid])
    assert table.is_running(process.pid, process.started_at)
    table.kill_only([process.pid])
    wait_until_ended(table, process)


@pytest.mark.parametrize(
    ("known", "stray"),
    [({}, True), ({"rep_1": 7}, False), ({"rep_1": 8}, True), ({"rep_1": None}, False)],
)
def test_whose_engine_it_is(known: dict[str, int | None], stray: bool) -> None:
    assert is_stray("rep_1", {7, 9}, known) is stray


def test_a_log_is_private_and_its_tail_short(table: ProcessTable, tmp_path: Path) -> None:
    process = spawn(table, tmp_path, "for n in range(100): print('line', n, chr(0))")
    wait_until_ended(table, process)
    log_path = tmp_path / "rep_1.log"
    assert stat.S_IMODE(log_path.stat().st_mode) == 0o600
    lines = logs.tail(log_path).splitlines()
    assert (lines[0], lines[-1]) == ("line 85", "line 99")
    assert logs.tail(tmp_path / "none.log") == ""


def test_a_log_that_has_grown_too_long_is_moved_aside(tmp_path: Path) -> None:
    log_path = tmp_path / "rep_1.log"
    log_path.write_text("short")
    logs.rotate(log_path)
    assert log_path.exists()
    os.truncate(log_path, logs.MAX_LOG_BYTES + 1)
    logs.rotate(log_path)
    assert not log_path.exists()
    assert (tmp_path / "rep_1.log.1").exists()


def test_the_log_of_an_engine_that_runs_on_is_kept_short(tmp_path: Path) -> None:
    log_path = tmp_path / "rep_1.log"
    with log_path.open("ab") as log:
        log.write(b"first\n" + bytes(logs.MAX_LOG_BYTES))
        log.flush()
        assert logs.trim(tmp_path) == 1
        log.write(b"more\n")
    assert log_path.read_bytes() == b"more\n"
    assert (tmp_path / "rep_1.log.1").read_bytes()[:6] == b"first\n"
    assert logs.trim(tmp_path) == 0


def test_logs_of_long_ago_are_removed(tmp_path: Path) -> None:
    for name, age_s in (("old.log", logs.KEPT_S + 1), ("old.log.1", logs.KEPT_S + 1), ("new.log", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age_s, 1e9 - age_s))
    assert logs.prune(tmp_path, 1e9) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["new.log"]


def test_the_gpus_of_a_replica_are_known_again_from_its_environment(table: ProcessTable, tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", SLEEP]
    log_path = tmp_path / "rep_1.log"
    table.spawn("rep_1", "http://127.0.0.1:9", command, {"PATH": os.defpath, "CUDA_VISIBLE_DEVICES": "0,1,2"}, log_path, gpus=("1", "2"))
    spawn(table, tmp_path, replica_id="rep_2")
    assert ProcessTable(tmp_path).gpus() == {"rep_1": ("1", "2")}
    assert set(table.memory_bytes()) == {"rep_1", "rep_2"}
    assert all(size > 2**20 for size in table.memory_bytes().values())
    table.kill("rep_1")
    while "rep_1" in table.pids():
        os.sched_yield()
    assert table.gpus() == {}
