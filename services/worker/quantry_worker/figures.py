"""What a slot counts of its attempts. A slot is a process of its own: it writes its figures to a file, and the main process, which
serves metrics, reads those of all slots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantry_core.execution import FinishRequest
from quantry_core.jobs import Job

ATTEMPT_SECONDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
"""Upper bounds of the histogram of attempts."""

TOLD_EVERY_S = 1.0
"""How often what a child holds is written down."""

DROPPED = "dropped"
"""Outcome of attempts that lost their job, and so reported no end."""

log = structlog.get_logger(__name__)


class Running(BaseModel):
    """What a slot runs now."""

    model_config = ConfigDict(extra="ignore")

    job_id: str
    attempt: int
    type: str
    child_pid: int | None = None
    memory_bytes: int = 0
    """Of the child and all it started."""


class Duration(BaseModel):
    """How long attempts of one type took."""

    counts: list[int] = Field(default_factory=lambda: [0] * (len(ATTEMPT_SECONDS) + 1))
    """By bucket, the last one for what is longer than all bounds."""
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one."""
        self.counts[next((index for index, bound in enumerate(ATTEMPT_SECONDS) if seconds <= bound), len(ATTEMPT_SECONDS))] += 1
        self.sum_s += seconds


class Ended(BaseModel):
    """How many attempts ended in one way."""

    type: str
    outcome: str
    reason: str
    number: int = 0


class Figures(BaseModel):
    """One slot's figures, since its worker began."""

    model_config = ConfigDict(extra="ignore")

    running: Running | None = None
    ended: list[Ended] = Field(default_factory=list)
    durations: dict[str, Duration] = Field(default_factory=dict)
    fetched_bytes: int = 0
    cached_bytes: int = 0
    peak_memory_bytes: int = 0
    """The most that a child of this slot held."""


class SlotFigures:
    """Counts for one slot; ``file`` None: nobody reads it. The process that replaces a dead one goes on with its figures."""

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._written_at = float("-inf")
        self._figures = (read_figures(file) if file is not None else None) or Figures()
        # What ran in a process that died does so no more.
        self._figures.running = None

    def began(self, job: Job, attempt: int) -> None:
        """An attempt begins."""
        self._figures.running = Running(job_id=job.id, attempt=attempt, type=job.type)
        self._write()

    def pulled(self, *, fetched_bytes: int, cached_bytes: int) -> None:
        """Inputs are here: so many bytes came from the vault, so many from the cache."""
        self._figures.fetched_bytes += fetched_bytes
        self._figures.cached_bytes += cached_bytes

    def child_began(self, pid: int) -> None:
        """The attempt's child was started."""
        if self._figures.running is not None:
            self._figures.running.child_pid = pid
            self._write()

    def saw_memory(self, num_bytes: int) -> None:
        """The child and all it started hold so much now."""
        self._figures.peak_memory_bytes = max(self._figures.peak_memory_bytes, num_bytes)
        if self._figures.running is not None:
            self._figures.running.memory_bytes = num_bytes
            if self._clock() - self._written_at >= TOLD_EVERY_S:
                self._write()

    def ended(self, job: Job, request: FinishRequest | None) -> None:
        """The attempt is over; ``request`` is how it ended, None where it may not say."""
        outcome, reason = (DROPPED, "") if request is None else (str(request.outcome), str(request.reason))
        self._count(job.type, outcome, reason)
        if request is not None and request.seconds is not None:
            self._figures.durations.setdefault(job.type, Duration()).add(request.seconds)
        self._figures.running = None
        self._write()

    def _count(self, type: str, outcome: str, reason: str) -> None:
        known = next((one for one in self._figures.ended if (one.type, one.outcome, one.reason) == (type, outcome, reason)), None)
        if known is None:
            known = Ended(type=type, outcome=outcome, reason=reason)
            self._figures.ended.append(known)
        known.number += 1

    def _write(self) -> None:
        self._written_at = self._clock()
        if self._file is None:
            return
        incoming = self._file.with_suffix(".new")
        try:
            incoming.write_text(self._figures.model_dump_json())
            incoming.replace(self._file)
        except OSError as error:
            # A full disk costs the figures, not the job.
            log.warning("figures not written", problem=str(error))


def figures_file(directory: Path, slot: int) -> Path:
    """Returns where a slot's figures lie."""
    return directory / f"slot-{slot}.json"


def read_figures(file: Path) -> Figures | None:
    """Returns what a slot wrote last; None where it wrote nothing, or nothing that can be read."""
    try:
        return Figures.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def clear_figures(directory: Path) -> None:
    """Forgets the figures of a worker that was here before."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("slot-*"):
        file.unlink(missing_ok=True)


def all_figures(directory: Path, num_slots: int) -> Sequence[Figures]:
    """Returns each slot's figures, in their order; those of a slot that ran nothing yet are empty."""
    return [read_figures(figures_file(directory, slot)) or Figures() for slot in range(num_slots)]
