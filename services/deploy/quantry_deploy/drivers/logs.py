"""The log file of a replica."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_LOG_BYTES = 16 * 1024**2
"""A longer log is moved to ``<name>.1``: before the engine starts again, or while it runs."""

KEPT_S = 7 * 24 * 3600
"""Logs of replicas that are gone are kept this long after their last line."""

TAIL_LINES = 15
TAIL_CHARS = 2500
TAIL_READ_BYTES = 64 * 1024


def rotate(log_path: Path) -> None:
    """Moves a log that has grown too long aside, over the one moved before it."""
    if log_path.exists() and log_path.stat().st_size > MAX_LOG_BYTES:
        log_path.replace(log_path.with_name(log_path.name + ".1"))


def tail(log_path: Path) -> str:
    """Returns the last lines of a log, at most TAIL_LINES and TAIL_CHARS; empty if there is none."""
    try:
        with log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - TAIL_READ_BYTES))
            text = log.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    # A NUL cannot be stored in Postgres text, and an engine may write anything.
    lines = [line.rstrip() for line in text.replace("\x00", "").splitlines() if line.strip()]
    return "\n".join(lines[-TAIL_LINES:])[-TAIL_CHARS:]


def trim(folder: Path) -> int:
    """Moves the lines of logs that have grown too long aside while their engines write on; returns how many logs.

    The file stays, for it is open; its engine appends to what is left. Lines that come in between may be lost.
    """
    long = [log_path for log_path in folder.glob("*.log") if log_path.stat().st_size > MAX_LOG_BYTES]
    for log_path in long:
        shutil.copy(log_path, log_path.with_name(log_path.name + ".1"))
        os.truncate(log_path, 0)
    return len(long)


def prune(folder: Path, now_unix_s: float) -> int:
    """Removes logs that were last written more than KEPT_S seconds ago; returns how many."""
    old = [log_path for log_path in folder.glob("*.log*") if now_unix_s - log_path.stat().st_mtime > KEPT_S]
    for log_path in old:
        log_path.unlink(missing_ok=True)
    return len(old)
