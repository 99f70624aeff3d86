"""Stores the checkpoints of a training attempt while it goes on: in the background, the newest first, and never at its cost."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from quantry_core.errors import QuantryError, SourceRefused, StaleAttempt
from quantry_core.execution import CheckpointReport
from quantry_worker.artifacts import Artifacts, patiently
from quantry_worker.control import Control
from quantry_worker.disk import full_disk_words
from quantry_worker.events import EventBuffer
from quantry_worker.guard import POLL_S, Guard
from quantry_worker.protocol import ChildCheckpoint

log = structlog.get_logger(__name__)

LAST_UPLOAD_S = 60.0
"""How long the end of an attempt that did not succeed waits for its last checkpoint: that is what the next one goes on from."""


class LeftThere(Exception):
    """A checkpoint is not stored because the attempt is over or has lost its job."""


class CheckpointUploads:
    """The checkpoints of one attempt, which ``offer`` hands over. Between enter and exit a thread stores them, one at a time.

    While one is on its way only the newest of the others waits; those before it are passed over. Each folder is removed once it
    is stored, passed over or could not be stored, which costs the attempt a note and nothing else. A lost lease ends all uploads.
    """

    def __init__(
        self, control: Control, artifacts: Artifacts, events: EventBuffer, guard: Guard, *, job_id: str, attempt: int, directory: Path
    ) -> None:
        self._control = control
        self._artifacts = artifacts
        self._events = events
        self._guard = guard
        self._job_id = job_id
        self._attempt = attempt
        self._directory = directory
        self._changed = threading.Condition()
        self._waiting: ChildCheckpoint | None = None
        self._is_busy = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends what is still on its way, without waiting for it: the attempt's folder goes with all that is in it."""
        with self._changed:
            self._is_closed = True
            self._waiting = None
            self._changed.notify_all()

    def offer(self, checkpoint: ChildCheckpoint) -> None:
        """Takes over a complete checkpoint; waits for no upload."""
        with self._changed:
            passed_over, self._waiting = self._waiting, checkpoint
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
                self._thread.start()
        if passed_over is not None:
            log.info("a checkpoint was passed over", job_id=self._job_id, step=passed_over.step)
            self._remove(passed_over)

    def wait(self, timeout_s: float = LAST_UPLOAD_S) -> bool:
        """Waits until what was offered is stored or given up; returns False if that took too long or the lease is lost."""
        give_up_at = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting is not None or self._is_busy:
                left_s = give_up_at - time.monotonic()
                if left_s <= 0 or not self._guard.may_write():
                    return False
                self._changed.wait(min(POLL_S, left_s))
        return True

    def reason(self) -> str | None:
        """Returns why no more may be uploaded: not for every reason that ends an attempt, whose last checkpoint is to be kept."""
        if not self._guard.may_write():
            return self._guard.reason()
        return "the attempt is over" if self._is_closed else None

    def check(self) -> None:
        """Raises LeftThere if an upload must end."""
        reason = self.reason()
        if reason is not None:
            raise LeftThere(reason)

    def _run(self) -> None:
        while (checkpoint := self._take()) is not None:
            try:
                self._store(checkpoint)
            except (LeftThere, StaleAttempt) as error:
                log.info("a checkpoint was left where it was", job_id=self._job_id, step=checkpoint.step, reason=str(error))
            except Exception as error:
                self._tell(checkpoint, error)
            self._remove(checkpoint)

    def _take(self) -> ChildCheckpoint | None:
        """Returns the next checkpoint to store, once there is one; None when nothing more is to be stored."""
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            while self._waiting is None and not self._is_closed:
                self._changed.wait()
            checkpoint, self._waiting = self._waiting, None
            self._is_busy = checkpoint is not None
            return checkpoint

    def _store(self, checkpoint: ChildCheckpoint) -> None:
        folder = self._directory / checkpoint.folder
        if folder.is_symlink():
            raise SourceRefused(f"{checkpoint.folder} is a link, no folder")
        files = self._artifacts.push_checkpoint(self._job_id, self._attempt, checkpoint.step, folder, self)
        report = CheckpointReport(attempt=self._attempt, step=checkpoint.step, files=files, metrics=checkpoint.metrics)
        self.check()
        patiently(self, lambda: self._control.report_checkpoint(self._job_id, report, self._guard.timeout_s()))
        log.info("checkpoint stored", job_id=self._job_id, attempt=self._attempt, step=checkpoint.step)

    def _tell(self, checkpoint: ChildCheckpoint, error: Exception) -> None:
        """Says in the job's events why a checkpoint is not kept, unless the attempt is over and its folder is being removed."""
        if self._is_closed:
            return
        words = error.detail if isinstance(error, QuantryError) else full_disk_words(error) or f"{type(error).__name__}: {error}"
        log.warning("a checkpoint could not be stored", job_id=self._job_id, step=checkpoint.step, error=words)
        self._events.note(f"the checkpoint of step {checkpoint.step} could not be stored: {words}")

    def _remove(self, checkpoint: ChildCheckpoint) -> None:
        folder = self._directory / checkpoint.folder
        if folder.is_symlink():
            folder.unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
