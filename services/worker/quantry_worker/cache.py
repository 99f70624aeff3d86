"""Input files that were pulled once, under their digest, so that the next attempt links them instead of pulling again."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from quantry_core.versions import ManifestFile
from quantry_worker.disk import check_room

log = structlog.get_logger(__name__)

UNTOUCHED_MTIME_NS = 1_000_000_000
"""Modification time of every entry: one second after the epoch. Another one shows that somebody wrote to it."""
_ENTRY_MODE = 0o444


class BlobCache:
    """A folder of files by SHA-256, of at most ``max_bytes`` bytes, shared by the slots of one worker.

    A file enters only whole and with its digest checked. An entry that has not its size and modification time any more
    is pulled again. Past the limit the entries go that were used longest ago; a file that an attempt has linked stays on
    disk until that attempt ends, so the disk needs room for the cache and for the inputs of every slot.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._entries = directory / "sha256"
        self._incoming = directory / "incoming"
        self._max_bytes = max_bytes
        self._entries.mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(parents=True, exist_ok=True)

    def link(self, file: ManifestFile, to: Path, fetch: Callable[[ManifestFile, Path], None]) -> bool:
        """Makes the file appear at ``to``, read-only; returns True if it was here already, False if ``fetch`` brought it.

        ``fetch`` writes the file to the path it is given, with its digest checked; what it raises passes through.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        if self._link_entry(file, to):
            return True
        incoming = self._incoming / uuid.uuid4().hex
        try:
            fetch(file, incoming)
            incoming.chmod(_ENTRY_MODE)
            os.utime(incoming, ns=(time.time_ns(), UNTOUCHED_MTIME_NS))
            # Linked from here, not from the entry: another slot may evict that at any moment.
            os.link(incoming, to)
            incoming.replace(self._entries / file.sha256)
        finally:
            incoming.unlink(missing_ok=True)
        self._evict()
        return False

    def check_room(self, files: Iterable[ManifestFile]) -> None:
        """Raises DiskFull unless the disk has room for those files that are not here yet."""
        missing = {file.sha256: file.size_bytes for file in files if not (self._entries / file.sha256).exists()}
        check_room(self._incoming, sum(missing.values()))

    def clear_incoming(self) -> None:
        """Removes what a killed worker left half-pulled. Only while no slot is running."""
        for path in self._incoming.iterdir():
            path.unlink(missing_ok=True)

    def _link_entry(self, file: ManifestFile, to: Path) -> bool:
        entry = self._entries / file.sha256
        try:
            os.link(entry, to)
        except FileNotFoundError:
            return False
        status = to.stat()
        if (status.st_size, status.st_mtime_ns) != (file.size_bytes, UNTOUCHED_MTIME_NS):
            log.warning("a cached file was changed; it is pulled again", sha256=file.sha256)
            to.unlink()
            entry.unlink(missing_ok=True)
            return False
        os.utime(to, ns=(time.time_ns(), UNTOUCHED_MTIME_NS))
        return True

    def _evict(self) -> None:
        entries: list[tuple[int, int, Path]] = []
        for path in self._entries.iterdir():
            with suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_atime_ns, status.st_size, path))
        total_bytes = sum(size_bytes for _, size_bytes, _ in entries)
        for _, size_bytes, path in sorted(entries):
            if total_bytes <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total_bytes -= size_bytes
