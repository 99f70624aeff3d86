"""Collects what an attempt says and posts it in batches, from a thread of its own, so that a slow network stalls no child."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from math import isfinite
from types import TracebackType
from typing import Self

import structlog

from quantry_core.errors import QuantryError, StaleAttempt, Unavailable
from quantry_core.execution import EventDraft, EventsRequest
from quantry_core.jobs import STEP, EventKind, Progress
from quantry_worker.control import Control
from quantry_worker.guard import MAY_NOT_WRITE, Guard, StopReason
from quantry_worker.lines import MAX_LINE_CHARS, clean_text
from quantry_worker.progress import Pace
from quantry_worker.protocol import ChildMetrics, ChildProgress

log = structlog.get_logger(__name__)

FLUSH_INTERVAL_S = 1.0
BATCH_EVENTS = 100
MAX_LOG_LINES = 5000
"""First log lines of an attempt that are kept. What comes after them is left out, but for its end."""
LAST_LOG_LINES = 200
"""Last log lines of an attempt that are kept: what went wrong is told at the end."""
MAX_NOTES = 200
MAX_METRICS = 10_000
"""Points of an attempt's curves. A child that trains sends some thousand; what comes after these is in the artifact with the curve."""
PROGRESS_INTERVAL_S = 1.0


class EventBuffer:
    """The event stream of one attempt. What adds to it never waits; the thread between enter and exit posts.

    While the control plane is away, events are kept; they are bounded by the limits above. A batch whose answer was lost is
    posted again as it was and with the same offset, so that the control plane can tell which of it is stored already.
    """

    def __init__(self, control: Control, job_id: str, attempt: int, guard: Guard, pace: Pace) -> None:
        self._control = control
        self._job_id = job_id
        self._attempt = attempt
        self._guard = guard
        self._pace = pace
        self._lock = threading.Lock()
        self._pending: list[EventDraft] = []
        self._progress: Progress | None = None
        self._next_progress_at = 0.0
        self._num_log_lines = 0
        self._last_lines: deque[str] = deque(maxlen=LAST_LOG_LINES)
        self._num_notes = 0
        self._num_metrics = 0
        self._posting = threading.Lock()
        self._batch: list[EventDraft] = []
        self._num_stored = 0
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
        """Adds a log line; past the attempt's limit it is kept for the end."""
        self._num_log_lines += 1
        if self._num_log_lines <= MAX_LOG_LINES:
            self._add_line(text)
            return
        if self._num_log_lines == MAX_LOG_LINES + 1:
            self.note(f"the log has more than {MAX_LOG_LINES} lines; of the rest, the last {LAST_LOG_LINES} follow at the end")
        self._last_lines.append(text)

    def note(self, text: str) -> None:
        """Adds a sentence, until the attempt's limit."""
        self._num_notes += 1
        if self._num_notes <= MAX_NOTES:
            self._add_note(text)

    def metrics(self, metrics: ChildMetrics) -> None:
        """Adds a point of the job's curves, until the attempt's limit. What is not finite is no point."""
        values = {name: value for name, value in metrics.values.items() if name != STEP and isfinite(value)}
        if not values:
            return
        self._num_metrics += 1
        if self._num_metrics <= MAX_METRICS:
            self._add(EventDraft(kind=EventKind.METRICS, data={STEP: metrics.step, **values}))
        elif self._num_metrics == MAX_METRICS + 1:
            self.note(f"this attempt's curves have more than {MAX_METRICS} points; the rest are left out here")

    def progress(self, progress: ChildProgress) -> None:
        """Replaces the progress that is posted next."""
        current = self._pace.progress(progress)
        with self._lock:
            self._progress = current

    def end(self, *, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Adds the last log lines where the log was cut, and flushes: nothing is said after that. Returns as ``flush``.

        A control plane that is away is waited for as long as the lease holds, but not by a worker that shuts down.
        """
        last_lines, num_beyond = list(self._last_lines), self._num_log_lines - MAX_LOG_LINES
        self._last_lines.clear()
        if num_beyond > len(last_lines) > 0:
            self._add_note(f"{num_beyond - len(last_lines)} log lines are left out here")
        for text in last_lines:
            self._add_line(text)
        while not self.flush():
            if self._guard.reason() in {*MAY_NOT_WRITE, StopReason.DRAINING}:
                return False
            sleep(FLUSH_INTERVAL_S)
        return True

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

    def _add_line(self, text: str) -> None:
        self._add(EventDraft(kind=EventKind.LOG, data={"text": clean_text(text, MAX_LINE_CHARS)}))

    def _add_note(self, text: str) -> None:
        self._add(EventDraft(kind=EventKind.NOTE, data={"text": clean_text(text, MAX_LINE_CHARS)}))

    def _add(self, draft: EventDraft) -> None:
        with self._lock:
            self._pending.append(draft)
            is_full = len(self._pending) >= BATCH_EVENTS
        if is_full:
            self._wake.set()

    def _has_pending(self) -> bool:
        with self._lock:
            return bool(self._batch) or bool(self._pending) or self._progress is not None

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
            if not self._guard.may_write():
                return False
            try:
                request = EventsRequest(attempt=self._attempt, offset=self._num_stored, events=batch)
                self._control.events(self._job_id, request, self._guard.timeout_s())
            except StaleAttempt:
                self._guard.mark(StopReason.STALE)
                return False
            except Unavailable as error:
                log.warning("events wait for the control plane", job_id=self._job_id, error=str(error))
                return False
            except QuantryError as error:
                # Not stored, so the offset stays where it is.
                log.error("the control plane refuses events; they are dropped", job_id=self._job_id, error=str(error))
            else:
                self._num_stored += len(batch)
            self._batch = []
            return True

    def _take(self) -> list[EventDraft]:
        """Returns the batch to post: the one that was not answered, or else the next. Only while ``_posting`` is held."""
        if self._batch:
            return self._batch
        now = time.monotonic()
        with self._lock:
            self._batch, self._pending = self._pending[:BATCH_EVENTS], self._pending[BATCH_EVENTS:]
            if self._progress is not None and now >= self._next_progress_at:
                self._batch.append(EventDraft(kind=EventKind.PROGRESS, data=self._progress.model_dump(mode="json")))
                self._progress = None
                self._next_progress_at = now + PROGRESS_INTERVAL_S
            return self._batch
