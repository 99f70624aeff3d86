"""Ties a process's life to its parent's: kill -9 of the parent kills it too, so no job runs on without its supervisor."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal this process gets when the thread that forked it ends. Cleared by fork, kept by execve."""


def die_with_parent(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent ends; exits at once if the parent has ended already.

    ``parent_pid`` is the parent's pid as the parent knew it before it forked: it may have died before this call, and
    then this process has another parent by now.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        os._exit(128 + signal.SIGKILL)
