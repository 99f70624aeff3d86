from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quantry_worker.family import Family
from quantry_worker.memory import FamilyMemory, machine_memory_bytes, num_oom_kills, proportional_bytes, resident_bytes


@pytest.mark.parametrize(
    ("cgroup", "file", "text", "count"),
    [
        ("0::/quantry/worker\n", "quantry/worker/memory.events", "low 0\noom 1\noom_kill 3\n", 3),
        # In a container the path of the host is not there; the root is the container's own group.
        ("0::/elsewhere\n", "memory.events", "oom_kill 2\n", 2),
        ("5:memory:/docker/1\n4:cpu:/\n", "memory/docker/1/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", 4),
        ("0::/quantry\n", "quantry/memory.events", "something else\n", None),
        ("0::/quantry\n", "nothing", "", None),
        ("", "memory.events", "oom_kill 2\n", None),
    ],
)
def test_the_kernels_own_count_is_read(tmp_path: Path, cgroup: str, file: str, text: str, count: int | None) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert num_oom_kills(cgroup, tmp_path) == count


def test_this_machine_is_asked_without_an_error() -> None:
    count = num_oom_kills()
    assert count is None or count >= 0


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/quantry/worker\n", "quantry/worker/memory.max", "33554432\n"),
        ("0::/elsewhere\n", "memory.max", "33554432\n"),
        ("4:memory:/docker/1\n", "memory/docker/1/memory.limit_in_bytes", "33554432\n"),
    ],
)
def test_the_machines_memory_is_what_the_control_group_may_use(tmp_path: Path, cgroup: str, file: str, text: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert machine_memory_bytes(cgroup, tmp_path) == 32 * 1024**2


def test_a_group_without_a_limit_has_the_machines_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_memory_bytes("0::/\n", tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_process_that_has_ended_counts_nothing() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    memory = FamilyMemory(Family(pid))
    memory.sample()
    assert memory.peak_bytes == 0
    assert proportional_bytes(pid) == 0


def test_this_process_uses_memory() -> None:
    memory = FamilyMemory(Family(os.getpid()))
    memory.sample()
    assert memory.peak_bytes == memory.now_bytes > 1_000_000


HELD_BYTES = 120_000_000
SHARING = f"""
import os, signal, sys
held = bytearray(b"x" * {HELD_BYTES})
os.setsid()
for _ in range(3):
    if os.fork() == 0:
        if _ == 2:
            os.setsid()
        signal.pause()
print("forked", flush=True)
signal.pause()
"""


def test_pages_that_forks_share_count_once() -> None:
    with subprocess.Popen([sys.executable, "-c", SHARING], stdout=subprocess.PIPE) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"forked\n"
        members = [member.pid for member in Family(leader.pid).members()]
        memory = FamilyMemory(Family(leader.pid))
        memory.sample()
        in_rss = sum(resident_bytes(pid) for pid in members)
        for pid in members:
            os.kill(pid, signal.SIGKILL)
    assert len(members) == 4
    assert HELD_BYTES < memory.now_bytes < 2 * HELD_BYTES
    assert in_rss > 4 * HELD_BYTES
