"""Writes the child's events, one JSON object per line, to the descriptor it inherited."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from quantry_worker.protocol import (
    EVENTS_FD_VARIABLE,
    ChildCheckpoint,
    ChildFailure,
    ChildMetrics,
    ChildNote,
    ChildProgress,
    ChildResult,
    event_line,
    parse_event,
)

MIN_INTERVAL_S = 0.2
MAX_DETAIL_CHARS = 200
MAX_NOTE_CHARS = 2000


class Units(NamedTuple):
    """How far a phase is, counted: 3 of 12 layers."""

    done: int
    total: int
    unit: str


class Reporter:
    """What recipes tell the supervisor. Progress never goes backwards and is sent at most every 0.2 s within a phase.

    The last unit of a phase is always sent, so that what stands there in the end is 12 of 12.
    """

    def __init__(self, write: Callable[[bytes], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._phase = ""
        self._fraction = 0.0
        self._sent_at = float("-inf")

    @classmethod
    def from_environment(cls) -> Reporter:
        """Returns the reporter of this process; raises KeyError when it was not started by a supervisor."""
        descriptor = int(os.environ[EVENTS_FD_VARIABLE])
        # What the recipe starts must not hold the pipe open after this process has ended.
        os.set_inheritable(descriptor, False)
        return cls(os.fdopen(descriptor, "wb", buffering=0).write)

    def progress(self, phase: str, fraction: float, detail: str = "", units: Units | None = None) -> None:
        """Says where the work is; ``fraction`` is of all of it, from 0 to 1, ``units`` are this phase's."""
        self._fraction = min(1.0, max(self._fraction, fraction))
        now = self._clock()
        is_last = units is not None and units.done >= units.total
        if phase == self._phase and now - self._sent_at < MIN_INTERVAL_S and not is_last:
            return
        self._phase, self._sent_at = phase, now
        counted = {} if units is None or units.total < 1 else units._asdict()
        self._write(event_line(ChildProgress(phase=phase, fraction=self._fraction, detail=detail[:MAX_DETAIL_CHARS], **counted)))

    def part(self, begin: float, end: float) -> Reporter:
        """Returns a reporter for a stretch of this one's work: what it calls all of it is from ``begin`` to ``end`` of ours."""
        return Reporter(lambda line: self._write(_within(line, begin, end)), clock=self._clock)

    def note(self, text: str) -> None:
        """Puts one sentence into the job's event stream."""
        self._write(event_line(ChildNote(text=text[:MAX_NOTE_CHARS])))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Says what was measured at an optimizer step; what is not finite is left out, and nothing is said where nothing is left."""
        finite = _finite(values)
        if finite:
            self._write(event_line(ChildMetrics(step=step, values=finite)))

    def checkpoint(self, step: int, folder: str, values: Mapping[str, float]) -> None:
        """Says that ``folder`` of the task's checkpoints_dir is complete; from here on it is the supervisor's, who removes it."""
        self._write(event_line(ChildCheckpoint(step=step, folder=folder, metrics=_finite(values))))

    def end(self, event: ChildResult | ChildFailure) -> None:
        """Says how the work ended. Nothing may follow."""
        self._write(event_line(event))


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _within(line: bytes, begin: float, end: float) -> bytes:
    event = parse_event(line)
    if not isinstance(event, ChildProgress):
        return line
    return event_line(event.model_copy(update={"fraction": begin + (end - begin) * event.fraction}))
