"""The processes that belong to a child: those of its session, and all their descendants. What belongs to it must end with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
DEAD_STATES = frozenset("ZX")
KILL_PATIENCE_S = 2.0
"""How long what is killed may take to be gone. A process that the kernel does not let go is left to it."""
KILL_PAUSE_S = 0.01


class Member(NamedTuple):
    """A process. Its start, in clock ticks since the machine's, tells it from a later one that was given the same pid."""

    pid: int
    parent: int
    group: int
    session: int
    started_ticks: int


class Family:
    """A session leader with all it started. Only until the leader is reaped: then its pid may be another's.

    A descendant that made a session of its own is found by its parent. When that parent ends, the link is lost; so whoever was
    found in an earlier look stays a member as long as it lives. What comes loose between two looks is not found.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._known: frozenset[Member] = frozenset()

    def members(self) -> list[Member]:
        """Looks, and returns who lives; nobody if all have ended."""
        living = list(_processes())
        known = {(member.pid, member.started_ticks) for member in self._known}
        pids = {one.pid for one in living if self._pid in {one.pid, one.session} or (one.pid, one.started_ticks) in known}
        num_found = -1
        while num_found != len(pids):
            num_found = len(pids)
            pids.update(one.pid for one in living if one.parent in pids)
        found = [one for one in living if one.pid in pids]
        self._known = frozenset(found)
        return found

    def signal(self, number: int) -> bool:
        """Sends everyone a signal; returns whether anyone was left to get it."""
        members = self.members()
        # One call for the group misses nobody who is being forked.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)
        for member in members:
            if member.group != self._pid:
                _signal(member, number)
        return bool(members)

    def kill(self) -> None:
        """Kills everyone, again and again until nobody is left: what was forked meanwhile is found by the next look."""
        give_up_at = time.monotonic() + KILL_PATIENCE_S
        while self.signal(signal.SIGKILL) and time.monotonic() < give_up_at:
            time.sleep(KILL_PAUSE_S)


def _signal(member: Member, number: int) -> None:
    # A process that is gone, or that runs as somebody else by now (a setuid program), cannot be signalled.
    with suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(member.pid)
        try:
            # The descriptor stays with its process. So if that is the member now, it is the member that gets the signal.
            now = _process(member.pid)
            if now is not None and now.started_ticks == member.started_ticks:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _processes() -> Iterator[Member]:
    """Yields every process of the machine that lives: one that has ended and is not reaped yet does not."""
    for name in os.listdir(PROC):  # noqa: PTH208 - called several times a second; names are all that is needed
        process = _process(int(name)) if name.isdigit() else None
        if process is not None:
            yield process


def _process(pid: int) -> Member | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name in parentheses may itself hold spaces and parentheses: proc_pid_stat(5).
    state, parent, group, session, *rest = stat.rpartition(")")[2].split()
    return None if state in DEAD_STATES else Member(pid, int(parent), int(group), int(session), int(rest[15]))
