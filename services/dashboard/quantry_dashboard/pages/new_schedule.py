"""/schedules/new: a schedule by a few fields and what it submits, or as a whole file; when it would fire stands beside it.

?from=job_... has it submit what that job was asked to do.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from typing import NoReturn

from fastapi import Request
from nicegui import events, ui
from pydantic import ValidationError

from quantry_core.schedules import MissedPolicy, OverlapPolicy, SchedulePreview, ScheduleSubmission
from quantry_dashboard import facts
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import EMIT_CHECKED, EMIT_VALUE, Node
from quantry_dashboard.pages.confirmed import plain_button
from quantry_dashboard.pages.controls import Wrong
from quantry_dashboard.pages.dialogs import said_of, trouble_text, validation_text
from quantry_dashboard.pages.listing import address_of
from quantry_dashboard.pages.parts import Tab, add_crumbs, add_tabs
from quantry_dashboard.schedule_facts import (
    EXAMPLE,
    MISSED_WORDS,
    NEW,
    OVERLAP_WORDS,
    PATH,
    TEMPLATE_EXAMPLE,
    local_text,
    read_submission,
    read_template,
    schedule_address,
    template_of_job,
)
from quantry_dashboard.sessions import Session

NUM_PREVIEWED = 8
FILE = "file"
YAML = "yaml"
"""The text that says what is submitted, or all of it."""


def show(session: Session, request: Request) -> None:
    """Builds the form, by fields or as a file."""
    given = request.query_params
    NewSchedulePage(session, given.get("from", "").strip() or None, as_file=given.get("as") == FILE).build()


class NewSchedulePage:
    """One open form."""

    def __init__(self, session: Session, from_job: str | None, *, as_file: bool) -> None:
        self._session = session
        self._from = from_job
        self._as_file = as_file
        self._values = {"name": "", "cron": "30 2 * * *", "time_zone": "UTC", "overlap": "skip", "missed": "run_once"}
        self._template = "" if from_job else TEMPLATE_EXAMPLE
        self._text = EXAMPLE
        self._is_paused = False
        # One key for one schedule: a second click, or one after an answer that was lost, makes no second one.
        self._submitted: str | None = None
        self._key = ""
        self._is_submitting = False
        self._wrongs: dict[str, Wrong] = {}
        self._num_previews = 0

    def build(self) -> None:
        """Builds the page; what it would fire is asked for once the browser is connected."""
        address = address_of(NEW, **{"from": self._from, "as": FILE if self._as_file else None})
        self._frame = Frame(self._session, title="New schedule", address=address)
        with self._frame.content:
            add_crumbs(("Schedules", PATH), here="New schedule")
            Node("h1", "New schedule")
            by_fields, as_file = address_of(NEW, **{"from": self._from}), address_of(NEW, **{"as": FILE})
            add_tabs("How it is given", [Tab("Fields", by_fields), Tab("A whole file", as_file)], as_file if self._as_file else by_fields)
            with Node("div", classes="submit"):
                with Node("section", classes="panel form", aria_label="Schedule"), Node("div", classes="fields"):
                    if self._as_file:
                        self._add_long("Schedule as YAML", self._text, self._take_text, rows=20)
                    else:
                        self._add_fields()
                with Node("aside", classes="beside"):
                    self._build_aside()
        ui.timer(0.1, self._begin, once=True)

    def _build_aside(self) -> None:
        hindrance = facts.hindrance(self._session.identity)
        with Node("section", classes="panel", aria_label="Would fire"):
            Node("h2", "Would fire")
            self._next = Node("ol", classes="next-runs", aria_live="polite")
            with Node("div", classes="actions"):
                self._button = plain_button("Make it", "primary", hindrance=hindrance)
            if hindrance is None:
                self._button.on("click", self._submit)
            else:
                Node("p", hindrance, classes="dim hint")

    def _add_fields(self) -> None:
        self._add_text("name", "Name *", "nightly")
        self._add_text("cron", "Cron *", "minute hour day month weekday; six fields: seconds first")
        self._add_text("time_zone", "Time zone", "Europe/Berlin, UTC, …")
        self._add_choice("overlap", "While the run before is not over", [(str(one), OVERLAP_WORDS[one]) for one in OverlapPolicy])
        self._add_choice("missed", "What was missed", [(str(one), MISSED_WORDS[one]) for one in MissedPolicy])
        with Node("div", classes="field flag"):
            box = Node("input", type="checkbox", id="is_paused")
            box.on("change", self._take_paused, js_handler=EMIT_CHECKED)
            Node("label", "Begin paused", for_="is_paused")
        self._add_long("What it submits, as YAML *", self._template, self._take_template, rows=12)

    def _add_text(self, name: str, label: str, said: str) -> None:
        with Node("div", classes="field"):
            Node("label", label, for_=name)
            field = Node("input", type="text", id=name, spellcheck="false", autocomplete="off", aria_describedby=f"{name}-help")
            field.attribute("^value", self._values[name])
            field.on("change", self._taking(name), js_handler=EMIT_VALUE)
            Node("p", said, classes="help", id=f"{name}-help")
            self._wrongs[name] = Wrong(field)

    def _add_choice(self, name: str, label: str, choices: Sequence[tuple[str, str]]) -> None:
        with Node("div", classes="field"):
            Node("label", label, for_=name)
            with Node("select", id=name) as select:
                for value, said in choices:
                    Node("option", said, value=value, selected="selected" if value == self._values[name] else None)
            select.on("change", self._taking(name), js_handler=EMIT_VALUE)
            self._wrongs[name] = Wrong(select)

    def _add_long(self, label: str, value: str, take: Callable[[events.GenericEventArguments], object], *, rows: int) -> None:
        with Node("div", classes="field"):
            Node("label", label, for_=YAML)
            area = Node("textarea", value, id=YAML, rows=str(rows), spellcheck="false", classes="yaml")
            area.on("change", take, js_handler=EMIT_VALUE)
            self._wrongs[YAML] = Wrong(area)

    def _taking(self, name: str) -> Callable[[events.GenericEventArguments], object]:
        async def take(event: events.GenericEventArguments) -> None:
            self._values[name] = str(event.args or "").strip()
            self._wrongs[name].forget()
            if name in {"cron", "time_zone"}:
                await self._frame.look(self._preview)

        return take

    def _take_paused(self, event: events.GenericEventArguments) -> None:
        self._is_paused = event.args is True

    def _take_template(self, event: events.GenericEventArguments) -> None:
        self._template = str(event.args or "")
        self._wrongs[YAML].forget()

    async def _take_text(self, event: events.GenericEventArguments) -> None:
        self._text = str(event.args or "")
        self._wrongs[YAML].forget()
        await self._frame.look(self._preview)

    async def _begin(self) -> None:
        async def fill_and_preview() -> None:
            try:
                await self._fill()
            finally:
                await self._preview()

        await self._frame.look(fill_and_preview)

    async def _fill(self) -> None:
        if self._from is None or self._as_file:
            return
        job_id = self._from
        job = await ask(self._session, lambda client: client.jobs.get(job_id))
        self._template = template_of_job(job)
        # A text area takes its text from its content once, and from its value ever after.
        ui.run_javascript(f"document.getElementById('{YAML}').value = {json.dumps(self._template)}")

    async def _preview(self) -> None:
        self._num_previews += 1
        number = self._num_previews
        found, why = await self._asked_preview()
        # An answer that comes after a later question's is about what stands there no more.
        if number == self._num_previews:
            self._show_times(found, why)

    async def _asked_preview(self) -> tuple[SchedulePreview | None, str]:
        try:
            cron, time_zone = self._values["cron"], self._values["time_zone"]
            if self._as_file:
                read = await asyncio.to_thread(read_submission, self._text)
                cron, time_zone = read.cron, read.time_zone
            found = await ask(self._session, lambda client: client.schedules.preview(cron, time_zone=time_zone, num_runs=NUM_PREVIEWED))
        except NotDone as trouble:
            return None, trouble_text(trouble)
        except ValidationError as error:
            return None, validation_text(error)
        return found, ""

    def _show_times(self, found: SchedulePreview | None, why: str) -> None:
        self._next.clear()
        with self._next:
            for moment in () if found is None else found.next_runs:
                Node("li", local_text(moment))
            if why:
                Node("li", why, classes="wrong")

    async def _submit(self) -> None:
        if self._is_submitting:
            return
        self._is_submitting = True
        try:
            await self._frame.attempt(self._send)
        finally:
            self._is_submitting = False

    async def _send(self) -> None:
        try:
            submission = await asyncio.to_thread(self._submission)
            document = submission.model_dump_json()
            if document != self._submitted:
                self._submitted, self._key = document, str(uuid.uuid4())
            made = await ask(self._session, lambda client: client.schedules.create(submission, idempotency_key=self._key))
        except NotDone as trouble:
            self._refuse([(problem.field, problem.message) for problem in trouble.problems] or [(YAML, str(trouble))], trouble)
        except ValidationError as error:
            self._refuse([(".".join(map(str, one["loc"])), said_of(one)) for one in error.errors(include_url=False)], error)
        ui.navigate.to(schedule_address(made.id))

    def _submission(self) -> ScheduleSubmission:
        if self._as_file:
            return read_submission(self._text)
        return ScheduleSubmission.model_validate(
            {
                **self._values,
                "time_zone": self._values["time_zone"] or "UTC",
                "is_paused": self._is_paused,
                "template": read_template(self._template),
            }
        )

    def _refuse(self, problems: Sequence[tuple[str, str]], cause: Exception) -> NoReturn:
        """Shows each problem at the field it is about, what is about none at the text, and goes to the first; raises NotDone."""
        for wrong in self._wrongs.values():
            wrong.forget()
        for field, message in problems:
            name = field.partition(".")[0]
            is_own = name in self._wrongs
            self._wrongs[name if is_own else YAML].say(message if is_own or field in {"", YAML} else f"{field}: {message}")
        ui.run_javascript("quantryShowWrong()")
        raise NotDone("Nothing was made: see what is wrong below.") from cause
