"""Following jobs: a live bar each on a terminal, plain lines elsewhere, and how they ended."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import NamedTuple, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text

from quantry.cli.job_view import outcome_text, why
from quantry.cli.output import duration_text, emit_json, say, short_id, stderr, stdout
from quantry.cli.progress import details_text, loss_text, progress_of, progress_text
from quantry.client import Client
from quantry_core.jobs import FINAL_STATUSES, EventKind, Job, JobEvent, JobStatus

MAX_FOLLOWED = 16
"""Jobs at once: each is a connection of its own that the server reads events for."""

_LINE_STEP = 0.1
"""Without a terminal, a progress line is printed per phase and per tenth of the work."""


class _View(Protocol):
    def show(self, event: JobEvent) -> None: ...


def follow(client: Client, job_id: str) -> Job:
    """Shows a job's events until it ends and returns it."""
    return follow_all(client, [job_id])[0]


def follow_all(client: Client, job_ids: Sequence[str]) -> list[Job]:
    """Shows the events of several jobs until all have ended and returns the jobs. Ctrl-C says that they go on, and is raised."""
    console = stdout()
    going = dict.fromkeys(job_ids)
    with telling_what_goes_on(going, "jobs cancel"):
        if console.is_terminal:
            _follow_live(client, console, going)
        else:
            _show_all(client, _Lines(going), going)
    return [client.jobs.get(job_id) for job_id in job_ids]


def follow_submitted(client: Client, job_id: str, *, as_json: bool) -> None:
    """Follows a job to its end and prints how that was; with JSON nothing before it. Exits with 1 unless it succeeded."""
    if as_json:
        with telling_what_goes_on([job_id], "jobs cancel"):
            job = client.jobs.wait(job_id)
    else:
        say(job_id)
        job = follow(client, job_id)
    end_with(job, as_json=as_json)


@contextmanager
def telling_what_goes_on(going: Iterable[str], stop: str) -> Iterator[None]:
    """Says at Ctrl-C that the server goes on with what is not over, and which command stops it: ``jobs cancel``."""
    try:
        yield
    except KeyboardInterrupt:
        for one in going:
            stderr().print(f"{one} goes on. To stop it: quantry {stop} {one}")
        raise


def end_with(*jobs: Job, as_json: bool) -> None:
    """Prints how finished jobs ended; exits with 1 unless all succeeded."""
    for job in jobs:
        if as_json:
            emit_json(job)
        if job.status is JobStatus.SUCCEEDED:
            if not as_json:
                say(f"{job.id} succeeded{outcome_text(job)}")
            continue
        reason = f" ({job.reason})" if job.reason else ""
        stderr().print(f"{job.id} {job.status}{reason}: {why(job)}")
        stderr().print(f"Its log: quantry jobs logs {job.id}")
    if any(job.status is not JobStatus.SUCCEEDED for job in jobs):
        raise typer.Exit(1)


class _End(NamedTuple):
    """A job's stream is over, by this error if there is one."""

    error: Exception | None


def merged_events(streams: Sequence[Iterator[JobEvent]]) -> Iterator[JobEvent]:
    """Yields the events of several jobs as they come, until all streams are over; raises what one of them raises."""
    if len(streams) == 1:
        yield from streams[0]
        return
    incoming: SimpleQueue[JobEvent | _End] = SimpleQueue()

    def read(events: Iterator[JobEvent]) -> None:
        try:
            for event in events:
                incoming.put(event)
        except Exception as error:  # Whatever it is belongs to whoever shows the events.
            incoming.put(_End(error))
        else:
            incoming.put(_End(None))

    for events in streams:
        # Daemons: Ctrl-C must not wait for a stream that says nothing.
        threading.Thread(target=read, args=(events,), daemon=True).start()
    num_open = len(streams)
    while num_open:
        item = incoming.get()
        if isinstance(item, JobEvent):
            yield item
        elif item.error is not None:
            raise item.error
        else:
            num_open -= 1


def _show_all(client: Client, view: _View, going: dict[str, None]) -> None:
    """Shows every event; jobs that have ended are taken out of ``going``."""
    for event in merged_events([client.jobs.events(job_id) for job_id in going]):
        view.show(event)
        if _is_end(event):
            going.pop(event.job_id, None)


def _follow_live(client: Client, console: Console, going: dict[str, None]) -> None:
    columns = (
        TextColumn("{task.fields[job]}", markup=False, style="dim"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        _Elapsed(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        _show_all(client, _Bars(progress, list(going)), going)


class _Elapsed(ProgressColumn):
    """Time since the attempt began, by its events: it may have begun long before anybody watched."""

    def render(self, task: Task) -> Text:
        """Returns the time in words; nothing before the attempt."""
        began_at, ended_at = task.fields["began_at"], task.fields["ended_at"]
        if began_at is None:
            return Text("")
        seconds = ((ended_at or datetime.now(UTC)) - began_at).total_seconds()
        return Text(duration_text(max(0.0, seconds)), style="progress.elapsed")


class _Bars:
    """One progress bar per job; notes scroll by above them."""

    def __init__(self, progress: Progress, job_ids: Sequence[str]) -> None:
        self._progress = progress
        self._losses: dict[str, str] = {}
        self._tasks = {
            job_id: progress.add_task("waiting", total=1.0, detail="", job=short_id(job_id), began_at=None, ended_at=None)
            for job_id in job_ids
        }

    def show(self, event: JobEvent) -> None:
        """Takes one event in."""
        task = self._tasks[event.job_id]
        if event.kind is EventKind.PROGRESS and (place := progress_of(event.data)) is not None:
            detail = details_text(place, self._losses.get(event.job_id, ""))
            self._progress.update(task, completed=place.fraction, description=place.phase, detail=detail)
        elif event.kind is EventKind.METRICS:
            _note_loss(self._losses, event)
        elif event.kind is EventKind.STATE:
            status = str(event.data.get("status", ""))
            self._progress.update(task, description=status, detail=str(event.data.get("message") or ""))
            if status == JobStatus.RUNNING:
                self._progress.update(task, completed=0.0, began_at=event.created_at)
            else:
                self._progress.update(task, ended_at=event.created_at if status in FINAL_STATUSES else None)
        elif event.kind is EventKind.NOTE:
            prefix = f"{short_id(event.job_id)} " if len(self._tasks) > 1 else ""
            self._progress.console.print(f"{prefix}{event.data.get('text', '')}")


class _Lines:
    """One line per change of state, note, phase and tenth of the work; with the job's id where there are several."""

    def __init__(self, job_ids: Sequence[str] | dict[str, None]) -> None:
        self._has_several = len(job_ids) > 1
        self._shown: dict[str, tuple[str, float]] = {}
        self._losses: dict[str, str] = {}

    def show(self, event: JobEvent) -> None:
        """Takes one event in."""
        if event.kind is EventKind.STATE:
            parts = [str(event.data.get("status", "")), *(str(event.data[name]) for name in ("reason", "message") if event.data.get(name))]
            self._say(event, " - ".join(parts))
            self._shown.pop(event.job_id, None)
        elif event.kind is EventKind.NOTE:
            self._say(event, str(event.data.get("text", "")))
        elif event.kind is EventKind.PROGRESS and (place := progress_of(event.data)) is not None:
            phase, fraction = self._shown.get(event.job_id, ("", -1.0))
            if place.phase != phase or place.fraction >= fraction + _LINE_STEP:
                self._say(event, progress_text(place, self._losses.get(event.job_id, "")))
                self._shown[event.job_id] = place.phase, place.fraction
        elif event.kind is EventKind.METRICS:
            _note_loss(self._losses, event)

    def _say(self, event: JobEvent, text: str) -> None:
        at = event.created_at.astimezone().strftime("%H:%M:%S")
        say(f"{at} {event.job_id} {text}" if self._has_several else f"{at} {text}")


def _note_loss(losses: dict[str, str], event: JobEvent) -> None:
    """Keeps the newest loss of a job that trains, to be shown beside its progress."""
    if text := loss_text(event.data):
        losses[event.job_id] = text


def _is_end(event: JobEvent) -> bool:
    return event.kind is EventKind.STATE and event.data.get("status") in FINAL_STATUSES
