"""Directories with short paths for servers and stacks: in memory where there is room, for making files there is several times cheaper."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

IN_MEMORY = Path("/dev/shm")
ON_DISK = Path("/tmp")
MIN_FREE_BYTES = 4 * 1024**3
"""Containers are commonly given 64 MB of shared memory: no room for a Postgres."""


def short_directory(prefix: str) -> Path:
    """Returns a new directory with a short path, below which programs may be run; whoever asks for it removes it."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=IN_MEMORY if _has_room(IN_MEMORY) else ON_DISK))


def _has_room(folder: Path) -> bool:
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= MIN_FREE_BYTES and not found.f_flag & os.ST_NOEXEC
