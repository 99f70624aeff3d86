"""Following a job: a live bar on a terminal, plain lines elsewhere, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from quantry.cli.output import emit_json, say, stderr, stdout
from quantry.client import Client
from quantry_core.jobs import REASONS, EventKind, Job, JobEvent, JobStatus

_LINE_STEP = 0.1
"""Without a terminal, a progress line is printed per phase and per tenth of the work."""


class _View(Protocol):
    def show(self, event: JobEvent) -> None: ...


def follow(client: Client, job_id: str) -> Job:
    """Shows a job's events until it ends and returns it."""
    console = stdout()
    events = client.jobs.events(job_id)
    if console.is_terminal:
        _follow_live(console, job_id, events)
    else:
        _show_all(_Lines(), events)
    return client.jobs.get(job_id)


def end_with(job: Job, *, as_json: bool) -> None:
    """Prints how a finished job ended; exits with 1 unless it succeeded."""
    if as_json:
        emit_json(job)
    if job.status is JobStatus.SUCCEEDED:
        if not as_json:
            say(_success_words(job))
        return
    reason = f" ({job.reason})" if job.reason else ""
    why = job.message or (REASONS[job.reason].words if job.reason else "")
    stderr().print(f"{job.id} {job.status}{reason}: {why}")
    stderr().print(f"Its log: quantry jobs log {job.id}")
    raise typer.Exit(1)


def _success_words(job: Job) -> str:
    text = f"{job.id} succeeded"
    if job.result is not None and job.result.seconds is not None:
        text += f" in {job.result.seconds:.1f} s"
    if job.result is not None and job.result.version_id is not None:
        text += f": {job.result.version_id}"
    elif job.result is not None and job.result.deployment is not None:
        text += f": {job.result.deployment} is served"
    return text


def _show_all(view: _View, events: Iterable[JobEvent]) -> None:
    for event in events:
        view.show(event)


def _follow_live(console: Console, job_id: str, events: Iterable[JobEvent]) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        _show_all(_Bar(progress, job_id), events)


class _Bar:
    """One progress bar; notes and changes of state scroll by above it."""

    def __init__(self, progress: Progress, job_id: str) -> None:
        self._progress = progress
        self._task = progress.add_task("waiting", total=1.0, detail=job_id)

    def show(self, event: JobEvent) -> None:
        """Takes one event in."""
        if event.kind is EventKind.PROGRESS:
            self._progress.update(
                self._task,
                completed=_fraction(event),
                description=str(event.data.get("phase", "")),
                detail=str(event.data.get("detail", "")),
            )
        elif event.kind is EventKind.STATE:
            self._progress.update(self._task, description=str(event.data.get("status", "")))
        elif event.kind is EventKind.NOTE:
            self._progress.console.print(str(event.data.get("text", "")))


class _Lines:
    """One line per change of state, note, phase and tenth of the work."""

    def __init__(self) -> None:
        self._phase = ""
        self._fraction = -1.0

    def show(self, event: JobEvent) -> None:
        """Takes one event in."""
        at = event.created_at.astimezone().strftime("%H:%M:%S")
        if event.kind is EventKind.STATE:
            parts = [str(event.data.get("status", "")), *(str(event.data[name]) for name in ("reason", "message") if event.data.get(name))]
            say(f"{at} {' - '.join(parts)}")
            self._phase, self._fraction = "", -1.0
        elif event.kind is EventKind.NOTE:
            say(f"{at} {event.data.get('text', '')}")
        elif event.kind is EventKind.PROGRESS:
            phase, fraction = str(event.data.get("phase", "")), _fraction(event)
            if phase != self._phase or fraction >= self._fraction + _LINE_STEP:
                say(f"{at} {phase} {fraction:4.0%} {event.data.get('detail', '')}".rstrip())
                self._phase, self._fraction = phase, fraction


def _fraction(event: JobEvent) -> float:
    value = event.data.get("fraction", 0.0)
    return float(value) if isinstance(value, (int, float)) else 0.0
