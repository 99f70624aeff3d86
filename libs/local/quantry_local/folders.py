"""Where a stack keeps things: one state directory, with a short detour for what cannot lie in it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from quantry_local.account import Account, can_enter, server_account
from quantry_local.errors import StackError

MAX_SOCKET_PATH_CHARS = 100
"""Linux takes 107 bytes for a Unix socket's path; a little is kept for Postgres's lock file beside it."""

LONGEST_SOCKET_NAME = ".s.PGSQL.5432"

MARKS = ("ports.json", "secrets.json")
"""Files that only a stack's own directory holds."""

FIRST_NAMES = re.compile(r"logs|run|postgres|lock|\.writable|\.ports\.json\.\d+|demo-\d+")
"""What a start makes before the first of ``MARKS``, and the demos' directories, which lie in the default one."""

UNFIT_CHARACTERS = ',"\\\n\r'
"""In a state directory's path: Postgres and libpq split socket folders at commas, Redis quotes its folder."""


@dataclass(frozen=True)
class Folders:
    """The folders of one stack. Made by ``choose_folders``; nothing exists before ``make``."""

    state_dir: Path
    account: Account | None
    postgres_home: Path
    sockets: Path

    @property
    def logs(self) -> Path:
        return self.state_dir / "logs"

    @property
    def outside(self) -> list[Path]:
        """Folders of this stack that are not below its state directory."""
        return [path for path in (self.postgres_home, self.sockets) if not path.is_relative_to(self.state_dir)]

    def is_used(self) -> bool:
        """Tells whether the state directory is there and a stack's own: by its files, or what a first start that failed left."""
        try:
            names = {path.name for path in self.state_dir.iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return False
        return any(mark in names for mark in MARKS) or (bool(names) and all(FIRST_NAMES.fullmatch(name) for name in names))

    def make(self) -> None:
        """Makes the folders with narrow modes; raises StackError if one cannot be made, or is somebody else's or for other things."""
        try:
            self._check_fit()
            self.state_dir.mkdir(parents=True, exist_ok=True)
            # Root lends Postgres an account: that account must pass through, and can list nothing.
            self.state_dir.chmod(0o711 if self.account and can_enter(self.state_dir.parent, self.account) else 0o700)
            probe = self.state_dir / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
            make_private(self.logs)
            make_private(self.sockets, mode=0o711 if self.account else 0o700)
            make_private(self.postgres_home, mode=0o711 if self.account else 0o700)
        except OSError as error:
            raise StackError(
                f"{self.state_dir} cannot be used as state directory ({error.strerror}: {error.filename}); "
                "choose one you may write, on a disk with room, with --state-dir"
            ) from error

    def _check_fit(self) -> None:
        """Raises StackError unless the state directory may be taken over: it is closed to others, and `forget` empties it."""
        if any(character in str(self.state_dir) for character in UNFIT_CHARACTERS):
            raise StackError(
                f"the path {str(self.state_dir)!r} cannot be a state directory: "
                "it may hold no comma, double quote, backslash or line break; choose another --state-dir"
            )
        if not self.state_dir.is_dir():
            return
        if self.state_dir.stat().st_mode & stat.S_ISVTX:
            raise StackError(f"{self.state_dir} is shared by every user of this machine; choose a folder of its own with --state-dir")
        if not is_empty(self.state_dir) and not self.is_used():
            raise StackError(f"{self.state_dir} holds files that are no stack's; choose a new or an empty folder with --state-dir")


def is_empty(path: Path) -> bool:
    """Tells whether nothing is lost by using this path: it is not there, or is a folder that holds nothing."""
    try:
        return next(path.iterdir(), None) is None
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def choose_folders(state_dir: Path) -> Folders:
    """Returns where the stack of this state directory keeps its things.

    Sockets move to ``/tmp/quantry-<hash>`` where their path would be too long for the kernel. Postgres's files and sockets
    also move out (to ``/var/lib/quantry-<hash>``) where root works below a folder that Postgres's account cannot enter.
    """
    try:
        state_dir = state_dir.resolve()
    except (OSError, RuntimeError) as error:  # Python 3.12 and older tell of a loop of links by RuntimeError
        raise StackError(f"{state_dir} leads nowhere ({error}); choose another directory with --state-dir") from error
    account = server_account(state_dir)
    digest = hashlib.sha256(f"{os.geteuid()}:{state_dir}".encode()).hexdigest()[:12]
    detour = Path("/var/lib") / f"quantry-{digest}"
    # Data stays where it is when somebody opens or closes a folder above.
    inside = can_enter(state_dir.parent, account) and not detour.exists()
    sockets = state_dir / "run"
    is_short = len(os.fsencode(sockets / "postgres" / LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH_CHARS
    return Folders(
        state_dir=state_dir,
        account=account,
        postgres_home=state_dir / "postgres" if inside else detour,
        sockets=sockets if inside and is_short else Path("/tmp") / f"quantry-{digest}",  # noqa: S108 - made private and checked in make_private
    )


def make_private(path: Path, *, mode: int = 0o700, account: Account | None = None) -> None:
    """Makes a folder with this mode, owned by the account (us where None); raises StackError if it is already somebody else's."""
    path.mkdir(mode=mode, exist_ok=True, parents=True)
    status = path.lstat()
    allowed = {os.geteuid()} | ({account.uid} if account else set())
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in allowed:
        raise StackError(f"{path} belongs to another user or is no folder; remove it, or choose another --state-dir")
    path.chmod(mode)
    if account is not None:
        os.chown(path, account.uid, account.gid)
