"""What a part of the stack is: how it is started, asked and stopped."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from quantry_local.launch import LaunchFile
from quantry_local.loopback import open_directly

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Part:
    """One process that the process manager keeps running."""

    name: str
    launch: LaunchFile
    is_ready: Callable[[], bool]
    """Asks the part itself whether it works. Never raises for one that is not up yet."""
    address: str
    """Where it answers, for people."""
    stop_wait_s: int
    """Seconds between its stop signal and SIGKILL."""
    stop_signal: str = "TERM"
    prepare: Callable[[], None] = field(default=lambda: None)
    ready_timeout_s: float = READY_TIMEOUT_S


@dataclass(frozen=True)
class OneShot:
    """A command that runs to its end between two parts. It says on standard output what others need, and logs on the other."""

    name: str
    launch: LaunchFile
    timeout_s: float = 120.0


def answers_ok(url: str) -> Callable[[], bool]:
    """Returns a question: does this URL answer 200?"""

    def ask() -> bool:
        try:
            with open_directly(url, timeout_s=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    return ask


def exits_zero(launch: LaunchFile) -> Callable[[], bool]:
    """Returns a question: does this command exit with 0?"""

    def ask() -> bool:
        try:
            finished = subprocess.run(launch.command, env=launch.environment, cwd=launch.cwd, capture_output=True, check=False, timeout=20)
        except subprocess.TimeoutExpired:
            return False
        return finished.returncode == 0

    return ask
