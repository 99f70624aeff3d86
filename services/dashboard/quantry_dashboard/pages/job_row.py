"""One row of the jobs list. It stays the same element while its job stays on the page, so that focus is not lost."""

from __future__ import annotations

from datetime import UTC, datetime

from quantry_core.jobs import FINAL_STATUSES, Job, JobStatus
from quantry_dashboard import words
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.progress_bar import ProgressBar

COLUMNS = ("Job", "Type", "About", "Status", "Progress", "Queue", "Priority", "Created", "Duration")


class JobRow:
    """A row, built in the table's body."""

    def __init__(self, job: Job) -> None:
        self.root = Node("tr", role="row")
        with self.root:
            with _cell("Job"):
                self._id = link(words.short_id(job.id), f"/jobs/{job.id}", classes="mono", title=job.id, aria_label=f"Job {job.id}")
            _cell("Type", job.type)
            about = words.about(job)
            with _cell("About", classes="about"):
                Node("span", about, classes="cut", title=about)
            with _cell("Status"):
                self._status = Node("span", classes="status")
                self._reason = Node("span", classes="dim reason")
            with _cell("Progress", classes="doing"):
                self._bar = ProgressBar(f"Progress of job {words.short_id(job.id)}")
                self._phase = Node("span", classes="dim phase")
            self._queue = _cell("Queue")
            _cell("Priority", str(job.priority), classes="number")
            with _cell("Created"):
                self._created = Node("time", datetime=job.created_at.isoformat(), title=words.moment_text(job.created_at))
            self._duration = _cell("Duration", classes="number")
        self.show(job, datetime.now(UTC))

    def show(self, job: Job, now: datetime) -> None:
        """Shows a job as it is now."""
        self._status.say(job.status)
        self._status.mark_as(f"status {job.status}")
        self._reason.say(words.reason_text(job))
        progress = job.progress if job.status is JobStatus.RUNNING else None
        self._bar.show(progress)
        self._phase.say(words.progress_text(progress) if progress is not None else "")
        self._queue.say(job.queue or "–")
        self._created.say(words.ago_text(job.created_at, now))
        seconds = words.run_duration_s(job, now)
        has_run = seconds is not None and (job.status is JobStatus.RUNNING or job.status in FINAL_STATUSES)
        self._duration.say(words.duration_text(seconds) if has_run and seconds is not None else "–")


def _cell(column: str, text: str | None = None, *, classes: str = "") -> Node:
    return Node("td", text, classes=classes, role="cell", data_label=column)
