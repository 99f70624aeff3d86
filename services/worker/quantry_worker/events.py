"""Collects what an attempt says and posts it in batches, from a thread of its own, so that a slow network stalls no child."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from quantry_core.errors import QuantryError, StaleAttempt, Unavailable
from quantry_core.execution import EventDraft, EventsRequest
from quantry_core.jobs import EventKind, Progress
from quantry_worker.control import Control
from quantry_worker.guard import Guard, StopReason
from quantry_worker.lines import MAX_LINE_CHARS, clean_text
from quantry_worker.protocol import ChildProgress

log = structlog.get_logger(__name__)

FLUSH_INTERVAL_S = 0.5
BATCH_EVENTS = 100
MAX_LOG_LINES = 5000
"""Log lines kept of one attempt. After them comes one note that says so."""
MAX_NOTES = 200
PROGRESS_INTERVAL_S = 1.0


class EventBuffer:
    """The event stream of one attempt. Its three methods never wait; the thread between enter and exit posts.

    While the control plane is away, events are kept; they are bounded by the limits above.
    """

    def __init__(self, control: Control, job_id: str, attempt: int, guard: Guard, on_progress: Callable[[Progress], None]) -> None:
        self._control = control
        self._job_id = job_id
        self._attempt = attempt
        self._guard = guard
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._pending: list[EventDraft] = []
        self._progress: Progress | None = None
        self._next_progress_at = 0.0
        self._num_log_lines = 0
        self._num_notes = 0
        self._posting = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        self._wake.set()

    def log(self, text: str) -> None:
        """Adds a log line, until the attempt's limit."""
        self._num_log_lines += 1
        if self._num_log_lines == MAX_LOG_LINES + 1:
            self.note(f"the log has more than {MAX_LOG_LINES} lines; the rest of this attempt's is not kept")
        if self._num_log_lines <= MAX_LOG_LINES:
            self._add(EventDraft(kind=EventKind.LOG, data={"text": clean_text(text, MAX_LINE_CHARS)}))

    def note(self, text: str) -> None:
        """Adds a sentence, until the attempt's limit."""
        self._num_notes += 1
        if self._num_notes <= MAX_NOTES:
            self._add(EventDraft(kind=EventKind.NOTE, data={"text": clean_text(text, MAX_LINE_CHARS)}))

    def progress(self, progress: ChildProgress) -> None:
        """Replaces the progress that is posted next."""
        current = Progress(phase=clean_text(progress.phase, 64), fraction=progress.fraction, detail=clean_text(progress.detail, 200))
        with self._lock:
            self._progress = current
        self._on_progress(current)

    def flush(self) -> bool:
        """Posts all that was said up to now, and waits for what the thread is posting; returns whether that succeeded."""
        with self._lock:
            self._next_progress_at = 0.0
        while True:
            # A batch leaves what is pending only while this is held: so nothing pending here means nothing on its way either.
            with self._posting:
                if not self._has_pending():
                    return self._guard.reason() is not StopReason.STALE
            if not self._post():
                return False

    def _add(self, draft: EventDraft) -> None:
        with self._lock:
            self._pending.append(draft)
            is_full = len(self._pending) >= BATCH_EVENTS
        if is_full:
            self._wake.set()

    def _has_pending(self) -> bool:
        with self._lock:
            return bool(self._pending) or self._progress is not None

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(FLUSH_INTERVAL_S)
            self._wake.clear()
            if not self._post():
                # Away: what is pending waits here for it, the next try is not at once even when a batch is full.
                time.sleep(FLUSH_INTERVAL_S)

    def _post(self) -> bool:
        """Posts one batch; returns False if it must be posted again later."""
        with self._posting:
            batch = self._take()
            if not batch:
                return True
            try:
                self._control.events(self._job_id, EventsRequest(attempt=self._attempt, events=batch))
            except StaleAttempt:
                self._guard.mark(StopReason.STALE)
                return False
            except Unavailable as error:
                log.warning("events wait for the control plane", job_id=self._job_id, error=str(error))
                with self._lock:
                    self._pending[:0] = batch
                return False
            except QuantryError as error:
                log.error("the control plane refuses events; they are dropped", job_id=self._job_id, error=str(error))
            return True

    def _take(self) -> list[EventDraft]:
        now = time.monotonic()
        with self._lock:
            batch, self._pending = self._pending[:BATCH_EVENTS], self._pending[BATCH_EVENTS:]
            if self._progress is not None and now >= self._next_progress_at:
                batch.append(EventDraft(kind=EventKind.PROGRESS, data=self._progress.model_dump(mode="json")))
                self._progress = None
                self._next_progress_at = now + PROGRESS_INTERVAL_S
            return batch
