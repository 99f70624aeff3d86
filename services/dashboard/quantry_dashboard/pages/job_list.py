"""/jobs: pages of jobs, newest first, with filters that live in the address."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from nicegui import events, ui

from quantry_core.jobs import Job, JobStatus, JobType
from quantry_core.pages import Page
from quantry_dashboard.asking import ask
from quantry_dashboard.filters import JobFilters
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.job_row import COLUMNS, JobRow
from quantry_dashboard.sessions import Session

REFRESH_S = 2.0
FIRST_JOB = "quantry jobs submit import --model bard-6m --source examples/bard-6m"
EMIT_VALUE = "(event) => emit(event.target.value)"


class JobListPage:
    """One open list."""

    def __init__(self, session: Session, filters: JobFilters, problems: list[str]) -> None:
        self._session = session
        self._filters = filters
        self._problems = problems
        self._rows: dict[str, JobRow] = {}

    def build(self) -> None:
        """Builds the page; its jobs come with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Jobs", address=self._filters.url())
        with self._frame.content:
            Node("h1", "Jobs")
            self._add_filters()
            for problem in self._problems:
                Node("p", problem, classes="banner", role="alert")
            self._loading = Node("p", "Loading…", classes="dim", role="status")
            with Node("div", classes="panel table", hidden="hidden") as self._panel, Node("table", role="table", aria_label="Jobs"):
                with Node("thead", role="rowgroup"), Node("tr", role="row"):
                    for column in COLUMNS:
                        Node("th", column, scope="col", role="columnheader", classes="number" if column in {"Priority", "Duration"} else "")
                self._body = Node("tbody", role="rowgroup")
            self._add_empty_states()
            with Node("nav", classes="pages", aria_label="Pages"):
                self._newest = link("Newest", self._filters.url(after=None), hidden="hidden")
                self._older = link("Older", "#", hidden="hidden")
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        page = await ask(self._session, self._filters.ask)
        self._loading.show_if(False)
        self._show(page, datetime.now(UTC))

    def _show(self, page: Page[Job], now: datetime) -> None:
        jobs = {job.id: job for job in page.data}
        for job_id in [known for known in self._rows if known not in jobs]:
            self._rows.pop(job_id).root.delete()
        with self._body:
            for place, job in enumerate(page.data):
                row = self._rows.get(job.id)
                if row is None:
                    row = self._rows[job.id] = JobRow(job)
                    if place != len(self._body.default_slot.children) - 1:
                        row.root.move(self._body, place)
                row.show(job, now)
        self._panel.show_if(bool(jobs))
        self._empty.show_if(not jobs and not self._filters.is_narrowed and self._filters.after is None)
        self._none_such.show_if(not jobs and (self._filters.is_narrowed or self._filters.after is not None))
        self._newest.show_if(self._filters.after is not None)
        self._older.show_if(page.has_more)
        if page.has_more:
            self._older.attribute("href", self._filters.url(after=page.last_id))

    def _add_filters(self) -> None:
        filters = self._filters
        with Node("div", classes="filters", role="search", aria_label="Filter jobs"):
            self._add_choice("status", "Status", JobStatus, filters.status)
            self._add_choice("type", "Type", JobType, filters.type)
            self._add_text("labels", "Labels", filters.labels, "team=search,!draft")
            self._add_text("queue", "Queue", filters.queue, "cpu")
            for name, value in (("pipeline_id", filters.pipeline_id), ("schedule_id", filters.schedule_id)):
                if value is not None:
                    self._add_text(name, name.removesuffix("_id").capitalize(), value, "")
            if filters.is_narrowed:
                link("Clear", JobFilters(limit=filters.limit).url(), classes="clear")

    def _add_choice(self, name: str, label: str, values: Iterable[str], chosen: str | None) -> None:
        with Node("label", classes="filter"):
            Node("span", label)
            with Node("select", name=name) as select:
                Node("option", "all", value="", selected=None if chosen else "selected")
                for value in values:
                    Node("option", value, value=value, selected="selected" if value == chosen else None)
            select.on("change", lambda event, name=name: self._go(name, event), js_handler=EMIT_VALUE)

    def _add_text(self, name: str, label: str, value: str | None, example: str) -> None:
        with Node("label", classes="filter"):
            Node("span", label)
            field = Node("input", name=name, type="search", value=value or "", placeholder=example, spellcheck="false", autocomplete="off")
            field.on("change", lambda event: self._go(name, event), js_handler=EMIT_VALUE)

    def _go(self, name: str, event: events.GenericEventArguments) -> None:
        ui.navigate.to(self._filters.url(**{name: str(event.args or "")}))

    def _add_empty_states(self) -> None:
        with Node("div", classes="panel empty", hidden="hidden") as self._empty:
            Node("h2", "There are no jobs yet")
            Node("p", "The first one brings a 16-bit checkpoint into the registry:")
            Node("pre", FIRST_JOB, classes="command", tabindex="0")
            Node("p", "Each job that is submitted, here or elsewhere, shows up on this page by itself.", classes="dim")
        with Node("div", classes="panel empty", hidden="hidden") as self._none_such:
            Node("h2", "No job is like that")
            with Node("p"):
                link("Show all jobs", JobFilters(limit=self._filters.limit).url())
