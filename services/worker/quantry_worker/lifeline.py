"""Whose life hangs on whose: a child ends with its supervisor, its orphans stay its own, and memory that is spent takes it first."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal this process gets when the thread that forked it ends. Cleared by fork, kept by execve."""
PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): descendants whose parent ends become this process's children, not those of the machine's first process."""


def die_with_parent(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent ends; exits at once if the parent has ended already.

    ``parent_pid`` is the parent's pid as the parent knew it before it forked: it may have died before this call, and
    then this process has another parent by now.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(128 + signal.SIGKILL)


def keep_orphans() -> None:
    """Has this process stay an ancestor of all it starts, daemons included: so its supervisor finds and ends them with it."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_first() -> None:
    """Has the kernel take this process, and what it starts, before every other one when the memory is spent: proc_pid_oom_score_adj(5)."""
    # Raising one's own score needs no privilege. Where it is not possible all the same, the kernel chooses by size.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
