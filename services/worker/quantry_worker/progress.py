"""How fast a child's work goes, and how long it will take still."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from quantry_core.jobs import Progress
from quantry_worker.guard import worker_clock
from quantry_worker.lines import clean_text
from quantry_worker.protocol import ChildProgress

WINDOW_S = 30.0
"""A rate is that of the last so many seconds, or of the last two reports where they lie further apart."""
MIN_FRACTION = 0.01
"""Before so much was done, and before a second has passed, elapsed time says nothing about what remains."""
MIN_ELAPSED_S = 1.0
MAX_POINTS = 1000


class Pace:
    """Turns what a child reports into the job's progress.

    It counts from the first report: the inputs that came in before it say nothing about how fast the child works.
    """

    def __init__(self, clock: Callable[[], float] = worker_clock) -> None:
        self._clock = clock
        self._began: tuple[float, float] | None = None
        self._counted = ("", "", 0)
        self._points: deque[tuple[float, int]] = deque(maxlen=MAX_POINTS)

    def progress(self, report: ChildProgress) -> Progress:
        """Returns the job's progress with its rate (units per second of late) and the seconds that remain (by fraction and time)."""
        now = self._clock()
        return Progress(
            phase=clean_text(report.phase, 64),
            fraction=report.fraction,
            detail=clean_text(report.detail, 200),
            done=report.done,
            total=report.total,
            unit=clean_text(report.unit, 32),
            rate_per_s=self._rate_per_s(report, now),
            remaining_s=self._remaining_s(report.fraction, now),
        )

    def _rate_per_s(self, report: ChildProgress, now: float) -> float | None:
        if report.done is None:
            return None
        counted = (report.phase, report.unit, report.total or 0)
        if counted != self._counted or (self._points and report.done < self._points[-1][1]):
            # Other units, or the same ones of another corpus: what was counted before does not compare.
            self._points.clear()
            self._counted = counted
        self._points.append((now, report.done))
        while len(self._points) > 2 and self._points[0][0] < now - WINDOW_S:
            self._points.popleft()
        since, before = self._points[0]
        return round((report.done - before) / (now - since), 3) if now > since else None

    def _remaining_s(self, fraction: float, now: float) -> float | None:
        if self._began is None:
            self._began = (now, fraction)
        began_at, first_fraction = self._began
        elapsed_s, done = now - began_at, fraction - first_fraction
        if fraction >= 1:
            return 0.0
        if done < MIN_FRACTION or elapsed_s < MIN_ELAPSED_S:
            return None
        return round(elapsed_s * (1 - fraction) / done, 1)
