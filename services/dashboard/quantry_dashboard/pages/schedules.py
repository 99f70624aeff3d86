"""/schedules: what is submitted again and again, when it is due next, and what became of the last run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from fastapi import Request

from quantry_core.schedules import Schedule
from quantry_dashboard import facts, words
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.listing import Listing, address_of, after_of, cell
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.schedule_facts import (
    NEW,
    OUTCOME_CLASSES,
    PATH,
    next_text,
    run_address,
    schedule_address,
    schedule_state,
    what_text,
    when_text,
)
from quantry_dashboard.sessions import Session

REFRESH_S = 3.0
ROWS = 25
COLUMNS = ("Schedule", "State", "Fires", "Submits", "Next run", "Last run", "Made")


def show(session: Session, request: Request) -> None:
    """Builds the page of schedules that follow the one the address names."""
    SchedulesPage(session, after_of(request.query_params)).build()


class SchedulesPage:
    """One open page."""

    def __init__(self, session: Session, after: str | None) -> None:
        self._session = session
        self._after = after

    def build(self) -> None:
        """Builds the page; its schedules come with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Schedules", address=address_of(PATH, after=self._after))
        with self._frame.content:
            with Node("div", classes="heading title"):
                Node("h1", "Schedules")
                with Node("div", classes="actions"):
                    if facts.hindrance(self._session.identity) is None:
                        link("New schedule", NEW, classes="button primary")
            self._listing = Listing[Schedule](
                "Schedules",
                COLUMNS,
                key=lambda schedule: schedule.id,
                make_row=_Row,
                address=lambda after: address_of(PATH, after=after),
                after=self._after,
                empty=_empty,
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._listing.read(ask(self._session, lambda client: client.schedules.list(after=self._after, limit=ROWS)))


class _Row:
    """One schedule."""

    def __init__(self, schedule: Schedule) -> None:
        with Node("tr", role="row") as self.root:
            with cell("Schedule"):
                link(schedule.name, schedule_address(schedule.id), classes="name", title=schedule.id)
            with cell("State"):
                self._state = Node("span", classes="status")
            self._when = cell("Fires", classes="mono")
            self._what = cell("Submits")
            with cell("Next run"):
                self._next = Node("span")
            with cell("Last run"):
                self._last = link("", "#", classes="status", hidden="hidden")
                self._last_text = Node("span", classes="dim reason")
            with cell("Made"):
                self._made = Node("time", datetime=schedule.created_at.isoformat(), title=words.moment_text(schedule.created_at))

    def show(self, schedule: Schedule, now: datetime) -> None:
        """Shows a schedule as it is now."""
        state = schedule_state(schedule)
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._when.say(when_text(schedule))
        self._what.say(what_text(schedule))
        self._next.say(next_text(schedule, now))
        self._next.attribute("title", None if schedule.next_run_at is None else words.moment_text(schedule.next_run_at))
        run = schedule.last_run
        self._last.show_if(run is not None)
        if run is None:
            self._last_text.say("never")
        else:
            self._last.say(run.outcome)
            self._last.mark_as(OUTCOME_CLASSES[run.outcome])
            self._last.attribute("href", run_address(run) or schedule_address(schedule.id))
            self._last.attribute("title", run.message)
            self._last_text.say(words.ago_text(run.fired_at, now))
        self._made.say(words.ago_text(schedule.created_at, now))


def _empty() -> AbstractContextManager[object]:
    return empty_state(
        "There are no schedules yet",
        "A schedule submits a job or a pipeline by a cron expression in a time zone:",
        "quantry schedules create nightly.yaml",
    )
