"""Runs one server of the embedded stack for the time of a test, without the process manager."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from quantry_local.account import Account
from quantry_local.ports import free_ports

READY_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10


class Server(Protocol):
    """What Postgres, Redis and S3 of quantry_local have in common."""

    @property
    def name(self) -> str: ...

    @property
    def stop_signal(self) -> str: ...

    @property
    def account(self) -> Account | None: ...

    def prepare(self) -> None: ...

    def command(self) -> list[str]: ...

    def environment(self) -> dict[str, str]: ...

    def is_ready(self) -> bool: ...


def free_port() -> int:
    """Returns a port nobody listens on now."""
    return free_ports(1, besides=set())[0]


@contextmanager
def running(server: Server, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Prepares and starts a server, waits until it answers, and stops it at the end."""
    server.prepare()
    process = start(server, log)
    try:
        wait_until_ready(server, process, log)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.Signals[f"SIG{server.stop_signal}"])
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def start(server: Server, log: Path) -> subprocess.Popen[bytes]:
    """Starts a prepared server as its account."""
    account = server.account
    identity: dict[str, Any] = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    environment = {"PATH": os.defpath, **server.environment()}
    with log.open("ab") as output:
        return subprocess.Popen(server.command(), cwd="/", env=environment, stdout=output, stderr=output, **identity)


def wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once the server answers; raises with its log if it ends or stays silent."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not server.is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} did not start:\n{log.read_text()}")
        time.sleep(0.02)
