"""Whether there is room on the disk before something large is fetched, and what is said where there was none."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from quantry_core.errors import QuantryError

SPARE_BYTES = 256 * 1024**2
"""Left free on top: for logs, and for what runs beside."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, the account's share of it is, or the file is longer than this process may write."""


class DiskFull(QuantryError):
    """A worker has no room for what a job needs. No fault of the job's: later, or on another worker, there may be."""

    slug = "worker-disk-full"
    title = "The worker's disk is full"


def check_room(directory: Path, needed_bytes: int) -> None:
    """Raises DiskFull, with both sizes, if the disk below ``directory`` has not ``needed_bytes`` and something to spare."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise DiskFull(_words(f"{needed_bytes} bytes and {SPARE_BYTES} to spare are needed, {free_bytes} are free"))


def full_disk_words(error: BaseException) -> str | None:
    """Returns what to say of an error that came because no more could be written; None for every other."""
    if isinstance(error, DiskFull):
        return error.detail
    # safetensors and torch give the system's words without its number.
    if getattr(error, "errno", None) not in _FULL and not any(os.strerror(number) in str(error) for number in _FULL):
        return None
    return _words(str(error))


def _words(cause: str) -> str:
    return f"the worker's disk is full: make room in its QUANTRY_WORK_DIR, or let another worker take the job ({cause})"
