"""/jobs: pages of jobs, newest first, with filters that live in the address, and what is done to several at once."""

from __future__ import annotations

from fastapi import Request

from quantry_core.jobs import Job, JobStatus, JobType
from quantry_dashboard import facts
from quantry_dashboard.asking import ask
from quantry_dashboard.filters import JobFilters, parse
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.filtering import filters
from quantry_dashboard.pages.job_row import COLUMNS, JobRow
from quantry_dashboard.pages.job_selection import JobSelection
from quantry_dashboard.pages.listing import Listing
from quantry_dashboard.pages.parts import empty_state, trouble
from quantry_dashboard.sessions import Session

REFRESH_S = 2.0
FIRST_JOB = "quantry jobs submit import --model bard-6m --source examples/bard-6m"


def show(session: Session, request: Request) -> None:
    """Builds the list as the address filters it."""
    wanted, problems = parse(request.query_params)
    JobListPage(session, wanted, problems).build()


class JobListPage:
    """One open list."""

    def __init__(self, session: Session, wanted: JobFilters, problems: list[str]) -> None:
        self._session = session
        self._wanted = wanted
        self._problems = problems

    def build(self) -> None:
        """Builds the page; its jobs come with the first refresh, once the browser is connected."""
        wanted = self._wanted
        hindrance = facts.hindrance(self._session.identity)
        self._frame = Frame(self._session, title="Jobs", address=wanted.url())
        with self._frame.content:
            with Node("div", classes="heading page-heading"):
                Node("h1", "Jobs")
                if hindrance is None:
                    link("New job", "/jobs/new", classes="button primary")
            self._add_filters()
            for problem in self._problems:
                trouble(problem)
            self._selection = JobSelection(self._session, self._frame, self._refresh) if hindrance is None else None
            self._listing = Listing[Job](
                "Jobs",
                COLUMNS if self._selection is not None else COLUMNS[1:],
                key=lambda job: job.id,
                make_row=lambda job: JobRow(job, self._selection),
                address=lambda after: wanted.url(after=after),
                after=wanted.after,
                empty=lambda: empty_state(
                    "There are no jobs yet",
                    "The first one brings a 16-bit checkpoint into the registry. Submit it with New job, or with:",
                    FIRST_JOB,
                ),
                none_such=self._add_none_such if wanted.is_narrowed or wanted.after is not None else None,
                numbers=("Priority", "Duration"),
                classes="jobs",
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        page = await self._listing.read(ask(self._session, self._wanted.ask))
        if self._selection is not None:
            self._selection.show(page.data)

    def _add_none_such(self) -> Node:
        with empty_state("No job is like that") as whole, Node("p"):
            link("Show all jobs", JobFilters(limit=self._wanted.limit).url())
        return whole

    def _add_filters(self) -> None:
        wanted = self._wanted
        clear = JobFilters(limit=wanted.limit).url() if wanted.is_narrowed else None
        with filters("Filter jobs", lambda name, value: wanted.url(**{name: value}), clear) as fields:
            fields.add_choice("status", "Status", JobStatus, wanted.status)
            fields.add_choice("type", "Type", JobType, wanted.type)
            fields.add_text("labels", "Labels", wanted.labels, "team=search,!draft")
            fields.add_text("queue", "Queue", wanted.queue, "cpu")
            for name, value in (("pipeline_id", wanted.pipeline_id), ("schedule_id", wanted.schedule_id)):
                if value is not None:
                    fields.add_text(name, name.removesuffix("_id").capitalize(), value)
