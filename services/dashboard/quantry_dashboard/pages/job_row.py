"""One row of the jobs list. It stays the same element while its job stays on the page, so that focus is not lost."""

from __future__ import annotations

from datetime import UTC, datetime

from quantry_core.jobs import Job
from quantry_dashboard import words
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.job_cells import JobCells
from quantry_dashboard.pages.job_selection import JobSelection
from quantry_dashboard.pages.listing import cell

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
            self._cells = JobCells(job, f"job {words.short_id(job.id)}")
            self._queue = cell("Queue")
            cell("Priority", str(job.priority), classes="number")
            with cell("Created"):
                self._created = Node("time", datetime=job.created_at.isoformat(), title=words.moment_text(job.created_at))
            self._duration = cell("Duration", classes="number")
        self.show(job, datetime.now(UTC))

    def show(self, job: Job, now: datetime) -> None:
        """Shows a job as it is now."""
        self._cells.show(job)
        self._queue.say(job.queue or "–")
        self._created.say(words.ago_text(job.created_at, now))
        self._duration.say(words.run_text(job, now))
