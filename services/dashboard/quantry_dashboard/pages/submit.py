"""/jobs/new: a form for every type of job that the API takes, built from its schemas, with the estimate beside it.

?type=quantize&base=bard-6m fills it in; ?from=job_... fills in what that job was asked to do.
"""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

from fastapi import Request
from nicegui import ui

from quantry_core.jobs import Estimate, Job
from quantry_dashboard import facts, words
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.drafts import AlternativesDraft, GroupDraft, prefilled
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.confirmed import plain_button
from quantry_dashboard.pages.parts import CopyableText, add_crumbs
from quantry_dashboard.pages.rollout_panels import FactList
from quantry_dashboard.pages.schema_form import SchemaForm
from quantry_dashboard.pages.suggestions import Suggestions
from quantry_dashboard.prefill import SPEC, document_of_query
from quantry_dashboard.sessions import Session
from quantry_dashboard.shapes import Group, UnreadableSchema, submission_shape, words_of

PATH = "/jobs/new"
PAUSE_S = 0.6
"""The estimate is asked for when nothing was changed for so long."""
NO_SCHEMA_S = 5.0
"""Until the form is asked for again where it could not be read."""

MISSING = "Field required"
"""What the API says of a field that must be given and is not."""


def show(session: Session, request: Request) -> None:
    """Builds the form as the address fills it in."""
    query = [(name, value) for name, value in request.query_params.multi_items() if value.strip()]
    SubmitPage(session, query, f"{PATH}?{request.url.query}" if request.url.query else PATH).build()


class SubmitPage:
    """One open form."""

    def __init__(self, session: Session, query: list[tuple[str, str]], address: str) -> None:
        self._session = session
        self._address = address
        self._from = next((value.strip() for name, value in query if name == "from"), None)
        self._query = [(name, value) for name, value in query if name != "from"]
        self._draft = GroupDraft(Group("", "", ()))
        self._has_form = False
        self._submitted: dict[str, Any] | None = None
        # One key for one document: a second click, or one after an answer that was lost, makes no second job.
        self._key = ""
        self._is_submitting = False
        self._pause: ui.timer | None = None
        self._num_changes = 0

    def build(self) -> None:
        """Builds the page; the form comes with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="New job", address=self._address)
        with self._frame.content:
            add_crumbs(("Jobs", "/jobs"), here="New job")
            Node("h1", "New job" if self._from is None else f"Again, with changes: {words.short_id(self._from)}")
            self._arriving = Arriving(self._frame)
            self._suggestions = Suggestions(self._session)
            with self._arriving.add_body("submit"):
                self._place = Node("section", classes="panel form", aria_label="Job")
                with Node("aside", classes="beside"):
                    self._build_aside()
        self._timer = self._arriving.refresh_every(NO_SCHEMA_S, self._read)

    def _build_aside(self) -> None:
        hindrance = facts.hindrance(self._session.identity)
        with Node("section", classes="panel", aria_label="Estimate"):
            Node("h2", "Estimate")
            with Node("div", aria_live="polite"):
                self._figures = FactList()
                self._notes = Node("p", classes="dim")
            with Node("div", classes="actions"):
                self._button = plain_button("Submit", "primary", hindrance=hindrance)
            if hindrance is not None:
                Node("p", hindrance, classes="dim hint")
            else:
                self._button.on("click", self._submit)
        with Node("details", classes="panel command-panel"):
            Node("summary", "The same on the command line")
            self._command = CopyableText("the command", classes="command mono")

    async def _read(self) -> None:
        """Reads what the API takes, and the job that is done again; then the form stands, and nothing is read again."""
        openapi = await ask(self._session, lambda client: client.openapi())
        try:
            shape = submission_shape(openapi)
        except UnreadableSchema as error:
            raise NotDone(f"There is no form: {error}.") from error
        document = document_of_query(shape, self._query)
        if self._from is not None:
            job_id = self._from
            document = {**_submission_of(await ask(self._session, lambda client: client.jobs.get(job_id))), **document}
        self._timer.deactivate()
        self._draft = prefilled(shape, document)
        with self._place:
            self._form = SchemaForm(self._draft, self._change, more="Priority, labels, limits and more", labels={SPEC: "Type"})
        self._has_form = True
        self._arriving.come()
        await self._estimate()
        await self._suggestions.read()

    def _change(self) -> None:
        """Called with every change: asks for the estimate once there is a pause."""
        self._num_changes += 1
        if self._pause is not None:
            self._pause.cancel()
        with self._place:
            self._pause = ui.timer(PAUSE_S, lambda: self._frame.look(self._estimate), once=True)

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = self._draft.given()
        return document

    async def _estimate(self) -> None:
        document = self._document()
        self._command.say(_command(document))
        self._follow_type()
        num_changes = self._num_changes
        try:
            estimate = await ask(self._session, lambda client: client.jobs.estimate_document(document))
        except NotDone as trouble:
            if num_changes == self._num_changes:
                self._figures.show([])
                self._notes.say(_not_yet(trouble))
            return
        if num_changes == self._num_changes:
            self._figures.show(_estimate_facts(estimate))
            self._notes.say(facts.estimate_notes(estimate))

    def _follow_type(self) -> None:
        """Has the address name the type that is chosen."""
        spec = self._draft.fields.get(SPEC)
        if isinstance(spec, AlternativesDraft) and self._from is None and not self._query:
            address = json.dumps(f"{PATH}?type={quote(spec.chosen, safe='')}")
            ui.run_javascript(f"history.replaceState(history.state, '', {address})")

    async def _submit(self) -> None:
        if self._is_submitting or not self._has_form:
            return
        self._is_submitting = True
        self._button.attribute("aria-disabled", "true")
        try:
            await self._frame.attempt(self._send)
        finally:
            self._is_submitting = False
            self._button.attribute("aria-disabled", None)

    async def _send(self) -> None:
        document = self._document()
        if document != self._submitted:
            self._submitted, self._key = document, str(uuid.uuid4())
        try:
            job = await ask(self._session, lambda client: client.jobs.submit_document(document, idempotency_key=self._key))
        except NotDone as trouble:
            left = self._form.show_problems(trouble.problems)
            if trouble.problems and not left:
                fields = "a field" if len(trouble.problems) == 1 else f"{len(trouble.problems)} fields"
                raise NotDone(f"Nothing was submitted: {fields} below cannot be so.") from trouble
            raise
        self._form.show_problems([])
        ui.navigate.to(f"/jobs/{job.id}")


def again_address(job_id: str) -> str:
    """Returns the address of a form that is filled in with what a job was asked to do."""
    return f"{PATH}?from={quote(job_id, safe='')}"


def _submission_of(job: Job) -> dict[str, Any]:
    """Returns what would submit the same job now; its queue is chosen anew, of the same resource: what it takes may have changed."""
    document = job.model_dump(mode="json", include={"spec", "priority", "limits", "labels", "metadata", "force"})
    return {**document, "resource": job.queue.partition("-")[0]} if job.queue is not None else document


def _estimate_facts(estimate: Estimate) -> list[facts.Fact]:
    minutes, ram, vram, size = estimate.minutes, estimate.peak_ram_bytes, estimate.peak_vram_bytes, estimate.result_bytes
    known = [
        facts.Fact("wall clock", "" if minutes is None else words.duration_text(minutes * 60)),
        facts.Fact("peak memory", "" if ram is None else words.bytes_text(ram)),
        facts.Fact("peak device memory", "" if vram is None else words.bytes_text(vram)),
        facts.Fact("size of the result", "" if size is None else words.bytes_text(size)),
        facts.Fact("queue", estimate.queue or ""),
    ]
    return [fact for fact in known if fact.text]


def _not_yet(trouble: NotDone) -> str:
    """Returns why there is no estimate: what is still to be filled in, else what the API says."""
    missing = [problem.field.rpartition(".")[2] for problem in trouble.problems if problem.message == MISSING]
    if missing and len(missing) == len(trouble.problems):
        return f"To be filled in: {', '.join(words_of(name) for name in missing)}."
    said = [f"{words_of(problem.field.rpartition('.')[2])}: {problem.message}." for problem in trouble.problems]
    return f"Nothing to tell yet. {' '.join(said) or trouble}"


def _command(document: dict[str, Any]) -> str:
    """Returns the command that submits a document; in a shell's quotes, whatever stands in it."""
    text = json.dumps(document, indent=1, ensure_ascii=False).replace("'", "'\\''")
    return f"quantry jobs submit json '{text}'"
