"""The marker in a pulled version's folder: which files it must have. Its time of change says when the folder was last used."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

MARKER = ".quantry-complete.json"

Look = dict[str, tuple[int, int, int]]
"""Size in bytes, time of change in nanoseconds and inode of each file, by its path in the folder."""


def look_at(folder: Path) -> Look | None:
    """Returns how a folder's files look, without reading them; None if that cannot be seen."""
    look: Look = {}
    try:
        for path in folder.rglob("*"):
            if path.is_file() and not path.name.startswith(MARKER):
                status = path.stat()
                look[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError:
        return None
    return look


def write_marker(folder: Path, sizes: dict[str, int]) -> Look:
    """Writes which files a folder must have, and returns how they look now. Call it when their bytes were found to be right."""
    look = look_at(folder)
    if look is None:
        raise OSError(f"{folder} cannot be read")
    incoming = folder / f"{MARKER}.new"
    incoming.write_text(json.dumps(sizes))
    incoming.replace(folder / MARKER)
    return look


def read_marker(folder: Path) -> dict[str, int] | None:
    """Returns the sizes of the files that a folder must have; None where it has no marker that can be read."""
    try:
        sizes = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return sizes if isinstance(sizes, dict) and all(isinstance(size, int) for size in sizes.values()) else None


def touch(folder: Path, now_s: float) -> None:
    """Says that a folder is used now, in Unix time."""
    with suppress(OSError):
        os.utime(folder / MARKER, (now_s, now_s))
