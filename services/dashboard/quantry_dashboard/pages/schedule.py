"""/schedules/<id>: one schedule: when it fires next, what became of every due time, and what can be done with it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import Request
from nicegui import ui

from quantry_core.schedules import MissedPolicy, OverlapPolicy, RunOutcome, Schedule, ScheduleRun
from quantry_dashboard import facts, words
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.confirmed import Question, plain_button
from quantry_dashboard.pages.dialogs import Answers, AskedField, FieldKind, PageDialog
from quantry_dashboard.pages.filtering import filters
from quantry_dashboard.pages.listing import Listing, address_of, cell
from quantry_dashboard.pages.parts import add_crumbs, empty_state, trouble
from quantry_dashboard.pages.rollout_panels import FactList
from quantry_dashboard.schedule_facts import (
    OUTCOME_CLASSES,
    OUTCOME_WORDS,
    PATH,
    local_text,
    run_address,
    schedule_address,
    schedule_facts,
    schedule_state,
    template_yaml,
)
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_filters import choice_of

REFRESH_S = 3.0
ROWS = 25
COLUMNS = ("Due", "Outcome", "Submitted", "Why", "When")


def show(session: Session, request: Request) -> None:
    """Builds the page of the schedule that the address names."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    problems: list[str] = []
    outcome = choice_of(RunOutcome, "outcome", given, problems)
    SchedulePage(session, request.path_params["schedule_id"], outcome, given.get("after"), problems).build()


class SchedulePage:
    """One open page."""

    def __init__(self, session: Session, schedule_id: str, outcome: RunOutcome | None, after: str | None, problems: list[str]) -> None:
        self._session = session
        self._id = schedule_id
        self._outcome = outcome
        self._after = after
        self._problems = problems
        self._schedule: Schedule | None = None
        self._shown_template: dict[str, object] | None = None
        self._shown_next: list[datetime] | None = None
        self._hindrance = facts.hindrance(session.identity)

    def build(self) -> None:
        """Builds the page; the schedule comes with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Schedule", address=self._address(self._after))
        with self._frame.content:
            add_crumbs(("Schedules", PATH), here=self._id, is_id=True)
            for problem in self._problems:
                trouble(problem)
            self._arriving = Arriving(self._frame)
            self._dialog = PageDialog(self._frame)
            with self._arriving.add_body():
                self._build_head()
                with Node("div", classes="columns"):
                    with Node("section", classes="panel", aria_label="Next runs"):
                        Node("h2", "Next runs")
                        self._next = Node("ol", classes="next-runs")
                    with Node("section", classes="panel", aria_label="What it submits"):
                        Node("h2", "What it submits")
                        self._template = Node("pre", classes="command", tabindex="0")
                with Node("section", aria_label="Runs"):
                    Node("h2", "Runs", classes="section-title")
                    self._build_runs()
        self._timer = self._arriving.refresh_every(REFRESH_S, self._refresh)

    def _build_head(self) -> None:
        with Node("section", classes="panel header", aria_label="Schedule"):
            with Node("div", classes="heading"):
                self._name = Node("h1", "")
                self._state = Node("span", classes="status")
                with Node("div", classes="actions"):
                    self._run = self._button("Run now", "primary", self._ask_run)
                    self._pause = self._button("Pause", "", self._ask_pause)
                    self._button("Change", "", self._ask_change)
                    self._button("Delete", "danger", self._ask_delete)
            if self._hindrance is not None:
                Node("p", self._hindrance, classes="dim hint")
            self._facts = FactList()

    def _build_runs(self) -> None:
        path = schedule_address(self._id)
        narrowed = path if self._outcome is not None else None
        with filters("Filter runs", lambda _name, value: address_of(path, outcome=value), narrowed) as fields:
            fields.add_choice("outcome", "Outcome", RunOutcome, self._outcome)
        self._runs = Listing[ScheduleRun](
            "Runs",
            COLUMNS,
            key=lambda run: run.id,
            make_row=_Row,
            address=self._address,
            after=self._after,
            empty=lambda: empty_state("It has not run yet", "Each due time, and each run by hand, is written down here."),
            none_such=(lambda: empty_state("No run is like that")) if self._outcome or self._after else None,
        )

    def _button(self, text: str, classes: str, action: Callable[[], None]) -> Node:
        button = plain_button(text, classes, hindrance=self._hindrance)
        if self._hindrance is None:
            button.on("click", action)
        return button

    async def _refresh(self) -> None:
        schedule, runs = await self._arriving.read(
            asyncio.gather(
                ask(self._session, lambda client: client.schedules.get(self._id)),
                ask(self._session, lambda client: client.schedules.runs(self._id, after=self._after, limit=ROWS, outcome=self._outcome)),
            )
        )
        now = datetime.now(UTC)
        self._show(schedule, now)
        self._runs.show(runs, now)

    def _show(self, schedule: Schedule, now: datetime) -> None:
        self._schedule = schedule
        self._arriving.come()
        state = schedule_state(schedule)
        self._name.say(schedule.name)
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._pause.say("Resume" if schedule.is_paused else "Pause")
        self._facts.show(schedule_facts(schedule, now))
        if schedule.template != self._shown_template:
            self._shown_template = schedule.template
            self._template.say(template_yaml(schedule.template))
        if schedule.next_runs != self._shown_next:
            self._shown_next = schedule.next_runs
            self._next.clear()
            with self._next:
                for moment in schedule.next_runs:
                    Node("li", local_text(moment), title=words.moment_text(moment))
                if not schedule.next_runs:
                    Node("li", "None while it is paused.", classes="dim")

    def _ask_run(self) -> None:
        question = Question("Run it now?", "Beside its due times; the overlap policy holds for this run too.", confirm="Run it")
        # One key for one question: a second click, or one after an answer that was lost, runs nothing twice.
        key = str(uuid.uuid4())
        self._dialog.ask_to(question, self._session, lambda client: client.schedules.run(self._id, idempotency_key=key), self._refresh)

    def _ask_pause(self) -> None:
        schedule = self._schedule
        if schedule is None:
            return
        if schedule.is_paused:
            question = Question(
                "Resume this schedule?",
                "Its policy for missed runs says what becomes of those that came due meanwhile.",
                confirm="Resume it",
            )
        else:
            question = Question("Pause this schedule?", "It fires nothing until it is resumed. What runs goes on.", confirm="Pause it")
        to_paused = not schedule.is_paused
        self._dialog.ask_to(question, self._session, lambda client: client.schedules.change(self._id, is_paused=to_paused), self._refresh)

    def _ask_change(self) -> None:
        schedule = self._schedule
        if schedule is None:
            return
        fields = (
            AskedField("cron", "Cron", schedule.cron, "minute hour day month weekday; six fields: seconds first"),
            AskedField("time_zone", "Time zone", schedule.time_zone, "Europe/Berlin, UTC, …"),
            AskedField("overlap", "While the run before is not over", schedule.overlap, "", FieldKind.CHOICE, tuple(OverlapPolicy)),
            AskedField("missed", "What was missed", schedule.missed, "", FieldKind.CHOICE, tuple(MissedPolicy)),
        )
        self._dialog.ask(Question("Change this schedule", "", confirm="Change it", keep="Cancel"), self._change, fields)

    async def _change(self, answers: Answers) -> None:
        changes = {name: answers.text(name) for name in ("cron", "time_zone", "overlap", "missed")}
        await ask(self._session, lambda client: client.schedules.change(self._id, **changes))
        await self._frame.look(self._refresh)

    def _ask_delete(self) -> None:
        question = Question(
            "Delete this schedule?",
            "Its list of runs goes with it. Jobs and pipelines that it submitted stay.",
            confirm="Delete it",
            is_dangerous=True,
        )
        self._dialog.ask(question, self._delete)

    async def _delete(self, _answers: Answers) -> None:
        await ask(self._session, lambda client: client.schedules.delete(self._id))
        self._timer.deactivate()
        ui.navigate.to(PATH)

    def _address(self, after: str | None) -> str:
        return address_of(schedule_address(self._id), outcome=self._outcome, after=after)


class _Row:
    """One run."""

    def __init__(self, run: ScheduleRun) -> None:
        with Node("tr", role="row") as self.root:
            with cell("Due"):
                Node("time", words.moment_text(run.due_at), datetime=run.due_at.isoformat())
                if run.is_manual:
                    Node("span", "by hand", classes="dim reason")
            with cell("Outcome"):
                self._outcome = Node("span", classes="status")
            with cell("Submitted"):
                address = run_address(run)
                if address is not None:
                    link(words.short_id(run.pipeline_id or run.job_id or ""), address, classes="mono")
            self._why = cell("Why", classes="wraps")
            with cell("When"):
                self._when = Node("time", datetime=run.fired_at.isoformat(), title=words.moment_text(run.fired_at))

    def show(self, run: ScheduleRun, now: datetime) -> None:
        """Shows what became of a due time."""
        self._outcome.say(run.outcome)
        self._outcome.mark_as(OUTCOME_CLASSES[run.outcome])
        self._outcome.attribute("title", OUTCOME_WORDS[run.outcome])
        self._why.say(run.message or "")
        self._when.say(words.ago_text(run.fired_at, now))
