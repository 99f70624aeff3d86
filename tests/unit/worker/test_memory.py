from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantry_worker.memory import PeakMemory, num_oom_kills


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


def test_a_process_that_has_ended_counts_nothing() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    memory = PeakMemory(pid)
    os.waitpid(pid, 0)
    memory.sample()
    assert memory.peak_bytes == 0


def test_this_process_uses_memory() -> None:
    memory = PeakMemory(os.getpid())
    memory.sample()
    assert memory.peak_bytes > 1_000_000
