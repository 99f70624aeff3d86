"""One row of the jobs list. It stays the same element while its job stays on the page, so that focus is not lost."""

from __future__ import annotations

from datetime import UTC, datetime

from quantry_core.jobs import Job, JobStatus
from quantry_dashboard import words
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.job_selection import JobSelection
from quantry_dashboard.pages.listing import cell
from quantry_dashboard.pages.progress_bar import ProgressBar

COLUMNS = ("Mark", "Job", "Type", "About", "Status", "Progress", "Queue", "Priority", "Created", "Duration")


class JobRow:
    """A row, built in the table's body."""

    def __init__(self, job: Job, selection: JobSelection | None) -> None:
        self.root = Node("tr", role="row")
        with self.root:
            if selection is not None:
                with cell("Mark", classes="mark"):
                    selection.add_box(job)
            with cell("Job"):
                self._id = link(words.short_id(job.id), f"/jobs/{job.id}", classes="mono", title=job.id, aria_label=f"Job {job.id}")
            cell("Type", job.type)
            about = words.about(job)
            with cell("About", classes="about"):
                Node("span", about, classes="cut", title=about)
            with cell("Status"):
                self._status = Node("span", classes="status")
                self._reason = Node("span", classes="dim reason")
            with cell("Progress", classes="doing"):
                self._bar = ProgressBar(f"Progress of job {words.short_id(job.id)}")
                self._phase = Node("span", classes="dim phase")
            self._queue = cell("Queue")
            cell("Priority", str(job.priority), classes="number")
            with cell("Created"):
                self._created = Node("time", datetime=job.created_at.isoformat(), title=words.moment_text(job.created_at))
            self._duration = cell("Duration", classes="number")
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
        self._duration.say(words.run_text(job, now))
