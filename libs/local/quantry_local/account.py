"""The account that runs Postgres: Postgres refuses root, so a stack started by root lends it an unprivileged one."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from quantry_local.errors import StackError


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def server_account(state_dir: Path) -> Account | None:
    """Returns the account Postgres runs as: None for "as we are", or for root the state directory's owner or ``nobody``.

    Raises StackError where root finds no unprivileged account.
    """
    if os.geteuid() != 0:
        return None
    owner_uid = state_dir.stat().st_uid if state_dir.exists() else 0
    try:
        entry = pwd.getpwuid(owner_uid) if owner_uid != 0 else pwd.getpwnam("nobody")
    except KeyError:
        raise StackError(
            "Postgres refuses to run as root and this machine has no account 'nobody'; run quantry as an ordinary user"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_enter(path: Path, account: Account | None) -> bool:
    """Tells whether the account may traverse every folder above ``path`` (and ``path`` itself where it is there)."""
    if account is None:
        return True
    absolute = path.resolve()
    return all(_may_traverse(folder.stat(), account) for folder in (absolute, *absolute.parents) if folder.is_dir())


def _may_traverse(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
