"""Leftovers, launch files and ports, on real processes and sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from factories.servers import free_port
from quantry_local.demo import check_fresh
from quantry_local.errors import StackError
from quantry_local.launch import LaunchFile
from quantry_local.leftovers import STACK_VARIABLE, end_processes, find_processes, is_alive, stack_mark
from quantry_local.ports import Ports, choose_ports, is_free
from quantry_local.stack import Options, Stack

Spawn = Callable[[str, Mapping[str, str]], subprocess.Popen[bytes]]

SLEEP = "print('up', flush=True); import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
WITH_UNMARKED_CHILD = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env={{}}, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts Python processes and waits for their first line; ends them at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", code], env=dict(environment), stdout=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def test_only_processes_with_the_mark_are_found(tmp_path: Path, spawn: Spawn) -> None:
    marked = spawn(SLEEP, {STACK_VARIABLE: stack_mark(tmp_path)})
    exported_by_a_person = spawn(SLEEP, {STACK_VARIABLE: str(tmp_path)})
    other_stack = spawn(SLEEP, {STACK_VARIABLE: stack_mark(tmp_path / "other")})
    for process in (marked, exported_by_a_person, other_stack):
        first_line(process)
    assert [process.pid for process in find_processes(tmp_path)] == [marked.pid]
    assert end_processes(tmp_path) == 1
    assert marked.wait(1) == -signal.SIGTERM
    assert exported_by_a_person.poll() is None
    assert other_stack.poll() is None


def test_a_child_that_lost_the_mark_ends_too(tmp_path: Path, spawn: Spawn) -> None:
    parent = spawn(WITH_UNMARKED_CHILD, {STACK_VARIABLE: stack_mark(tmp_path)})
    child = psutil.Process(int(first_line(parent)))
    assert end_processes(tmp_path) == 2
    assert not is_alive(child)


def test_one_that_ignores_sigterm_is_killed_in_time(tmp_path: Path, spawn: Spawn) -> None:
    process = spawn(STUBBORN, {STACK_VARIABLE: stack_mark(tmp_path)})
    first_line(process)
    started = time.monotonic()
    end_processes(tmp_path)
    assert process.wait(1) == -signal.SIGKILL
    assert time.monotonic() - started < 7


def test_the_process_that_looks_is_never_found(tmp_path: Path) -> None:
    look = (
        "import sys; from pathlib import Path; from quantry_local.leftovers import find_processes; "
        "print(len(find_processes(Path(sys.argv[1]))))"
    )
    looked = subprocess.run(
        [sys.executable, "-c", look, str(tmp_path)],
        env={**os.environ, STACK_VARIABLE: stack_mark(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert looked.stdout.strip() == "0"


def test_a_launched_part_has_exactly_its_environment(tmp_path: Path) -> None:
    code = "import json, os; print(json.dumps([os.environ.copy(), os.getcwd()]))"
    file = LaunchFile(command=[sys.executable, "-c", code], environment={"A": 'a "quoted, 100%" value'}, cwd=str(tmp_path))
    (tmp_path / "part.json").write_text(file.model_dump_json())
    launched = subprocess.run(
        [sys.executable, "-m", "quantry_local.launch", str(tmp_path / "part.json")], capture_output=True, text=True, check=True, timeout=60
    )
    environment, cwd = json.loads(launched.stdout)
    # Python itself may set LC_CTYPE where no locale is given.
    assert {name: value for name, value in environment.items() if name != "LC_CTYPE"} == {"A": 'a "quoted, 100%" value'}
    assert cwd == str(tmp_path)


def test_ports_are_kept_over_a_restart_and_replaced_where_taken() -> None:
    first = choose_ports(None, free_port())
    assert len(set(first.model_dump().values())) == len(Ports.model_fields)
    assert choose_ports(first, None) == first
    # A stack from before the dashboard gets a port for it and keeps the others.
    older = choose_ports(first.model_copy(update={"dashboard": 0}), None)
    assert older.dashboard > 0
    assert older.model_copy(update={"dashboard": first.dashboard}) == first
    with socket.create_server(("127.0.0.1", first.s3)):
        second = choose_ports(first, None)
    assert second.s3 != first.s3
    assert second.model_copy(update={"s3": first.s3}) == first


def test_a_taken_gateway_port_names_its_holder_and_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(StackError, match=rf"port {port} is taken by .+ \(pid {os.getpid()}\).*--port"):
            choose_ports(None, port)


def test_down_ends_what_a_removed_state_directory_left(tmp_path: Path, spawn: Spawn) -> None:
    gone = tmp_path / "gone"
    left = spawn(SLEEP, {STACK_VARIABLE: stack_mark(gone)})
    first_line(left)
    assert Stack(Options(gone)).down()
    assert left.wait(1) == -signal.SIGTERM
    assert not gone.exists()
    assert not Stack(Options(gone)).down()


def test_down_leaves_a_folder_that_is_no_stacks_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("of another program")
    (tmp_path / "thesis.tex").touch()
    assert not Stack(Options(tmp_path)).down()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "thesis.tex"]
    assert (tmp_path / "lock").read_text() == "of another program"


def test_the_demo_refuses_a_folder_whose_stack_still_runs(tmp_path: Path, spawn: Spawn) -> None:
    running = spawn(SLEEP, {STACK_VARIABLE: stack_mark(tmp_path)})
    first_line(running)
    with pytest.raises(StackError, match="still runs"):
        check_fresh(tmp_path)
    assert running.poll() is None
