"""The cells that every row about a job has: what it is, its status with why, and its progress."""

from __future__ import annotations

from quantry_core.jobs import Job, JobStatus
from quantry_dashboard import words
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.listing import cell
from quantry_dashboard.pages.progress_bar import ProgressBar


class JobCells:
    """Four cells, built within a row, then told how the job is."""

    def __init__(self, job: Job, name: str) -> None:
        """``name``: what progresses, for a screen reader."""
        about = words.about(job)
        cell("Type", job.type)
        with cell("About", classes="about"):
            Node("span", about, classes="cut", title=about)
        with cell("Status"):
            self._status = Node("span", classes="status")
            self._reason = Node("span", classes="dim reason")
        with cell("Progress", classes="doing"):
            self._bar = ProgressBar(f"Progress of {name}")
            self._phase = Node("span", classes="dim phase")

    def show(self, job: Job) -> None:
        """Shows a job as it is now."""
        self._status.say(job.status)
        self._status.mark_as(f"status {job.status}")
        self._reason.say(words.reason_text(job))
        progress = job.progress if job.status is JobStatus.RUNNING else None
        self._bar.show(progress)
        self._phase.say(words.progress_text(progress) if progress is not None else "")
