"""The worker's folder: who owns it, where an attempt's files lie, and that they do not stay."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import structlog

from quantry_core.ids import IdPrefix, is_id

log = structlog.get_logger(__name__)

LOCK_PATIENCE_S = 15.0
LOCK_RETRY_S = 0.2


class WorkDirTaken(Exception):
    """Another worker works in this folder."""


class AttemptDirs(NamedTuple):
    """The folders of one attempt. ``root`` is removed with all that is in it when the attempt ends.

    ``inputs`` is made by the first input that comes in; the others are there.
    """

    root: Path
    inputs: Path
    output: Path
    artifacts: Path
    checkpoints: Path


class WorkDir:
    """``attempts/<job>/<attempt>/`` for what runs now, ``cache/`` for inputs, ``figures/`` of the slots, and two files, ``worker.lock``
    and ``worker.alive``."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._attempts = self._root / "attempts"
        self.cache = self._root / "cache"
        self.figures = self._root / "figures"
        self.alive_file = self._root / "worker.alive"

    def take(self, patience_s: float = LOCK_PATIENCE_S) -> None:
        """Makes this process and its forks the folder's owner until the last of them ends, and removes stale attempts.

        After a kill -9 the old processes may still be dying: waits ``patience_s`` seconds for them, then raises WorkDirTaken.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        # Held open on purpose: the lock lives as long as the descriptor, here and in the forks. Not inherited by children.
        descriptor = os.open(self._root / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
        give_up_at = time.monotonic() + patience_s
        while not _try_lock(descriptor):
            if time.monotonic() >= give_up_at:
                os.close(descriptor)
                raise WorkDirTaken(f"another worker uses {self._root}; give this one its own QUANTRY_WORK_DIR or stop the other")
            time.sleep(LOCK_RETRY_S)
        self.alive_file.unlink(missing_ok=True)
        if self._attempts.exists():
            log.info("removing what earlier attempts left", directory=str(self._attempts))
            _remove(self._attempts)

    @contextmanager
    def attempt(self, job_id: str, attempt: int) -> Iterator[AttemptDirs]:
        """Makes the folders of an attempt and removes them at the end, whatever happened."""
        if not is_id(job_id, IdPrefix.JOB):
            raise ValueError(f"not the id of a job: {job_id!r}")
        root = self._attempts / job_id / str(attempt)
        dirs = AttemptDirs(
            root=root,
            inputs=root / "inputs",
            output=root / "output",
            artifacts=root / "artifacts",
            checkpoints=root / "checkpoints",
        )
        try:
            for directory in (dirs.output, dirs.artifacts, dirs.checkpoints, root / "tmp"):
                directory.mkdir(parents=True)
            yield dirs
        finally:
            _remove(root)
            _remove_if_empty(root.parent)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except OSError as error:
        # The next start removes it; the job's end does not depend on it.
        log.warning("a work directory could not be removed", directory=str(directory), error=str(error))


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        log.debug("another attempt's folder is beside this one", directory=str(directory))
