"""What a stack remembers between runs: its ports. And the lock that keeps two commands from working on one stack at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from quantry_local.errors import StackError
from quantry_local.ports import Ports
from quantry_local.private_files import write_private

PORTS_FILE = "ports.json"
CLIENT_FILE = "client.json"
LOCK_FILE = "lock"


class ClientFile(BaseModel):
    """What the SDK and the command line read to reach this stack."""

    model_config = ConfigDict(frozen=True)

    url: str
    api_key: str


def load_ports(state_dir: Path) -> Ports | None:
    """Returns the remembered ports; None where there are none, or the file is damaged: then they are chosen anew."""
    try:
        return Ports.model_validate_json((state_dir / PORTS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def save_ports(state_dir: Path, ports: Ports) -> None:
    write_private(state_dir / PORTS_FILE, ports.model_dump_json() + "\n")


def save_client_file(state_dir: Path, file: ClientFile) -> None:
    write_private(state_dir / CLIENT_FILE, file.model_dump_json(indent=2) + "\n")


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Holds the stack's lock; raises StackError if another command holds it. The kernel frees it with its process."""
    descriptor = os.open(state_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise StackError(
                f"another quantry command (pid {pid}) is starting or stopping the stack in {state_dir}; wait until it is done"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
