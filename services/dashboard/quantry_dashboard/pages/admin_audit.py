"""/admin/audit: who did what to which thing, page by page; whether the chain holds; and the log as a file."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from fastapi import Request

from quantry_core.audit import AuditEntry
from quantry_dashboard import words
from quantry_dashboard.administration import AUDIT, admins_only
from quantry_dashboard.asking import ask
from quantry_dashboard.audit_view import (
    EXPORT,
    MAX_EXPORTED,
    AuditView,
    data_text,
    noun_address,
    parse,
    verification_text,
    who_text,
)
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.admin_parts import add_admin_head, refuse
from quantry_dashboard.pages.confirmed import plain_button
from quantry_dashboard.pages.filtering import filters
from quantry_dashboard.pages.listing import Listing, cell
from quantry_dashboard.pages.parts import copyable, empty_state, trouble
from quantry_dashboard.sessions import Session

REFRESH_S = 5.0
ROWS = 50
COLUMNS = ("Entry", "When", "Who", "Action", "What", "Details")


def show(session: Session, request: Request) -> None:
    """Builds the part of the log that the address asks for."""
    view, problems = parse(request.query_params)
    AuditPage(session, view, problems).build()


class AuditPage:
    """One open page."""

    def __init__(self, session: Session, view: AuditView, problems: list[str]) -> None:
        self._session = session
        self._view = view
        self._problems = problems

    def build(self) -> None:
        """Builds the page; its entries come with the first refresh, once the browser is connected."""
        view = self._view
        self._frame = Frame(self._session, title="Audit log", address=view.url())
        hindrance = admins_only(self._session.identity)
        with self._frame.content:
            actions = add_admin_head(self._session, "Audit log", AUDIT)
            if hindrance is not None:
                refuse(hindrance)
                return
            with actions:
                self._add_actions()
            with Node("div", classes="panel verification", role="status", hidden="hidden") as self._verification:
                self._found = Node("p")
                self._noted = Node("div", classes="noted")
            for problem in self._problems:
                trouble(problem)
            self._add_filters()
            self._listing = Listing[AuditEntry](
                "Audit log",
                COLUMNS,
                key=lambda entry: entry.id,
                make_row=_Row,
                address=lambda after: view.url(after=after),
                after=view.after,
                empty=_empty,
                none_such=_none_such if view.is_narrowed or view.after else None,
                numbers=("Entry",),
                classes="audit",
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    def _add_actions(self) -> None:
        most = f"What the filters let through, newest first, {MAX_EXPORTED:,} entries at most"
        link("CSV", self._view.url(f"{EXPORT}.csv"), classes="button", download="", title=most)
        link("JSON", self._view.url(f"{EXPORT}.json"), classes="button", download="", title=most)
        self._verify = plain_button("Verify the chain", "primary")
        self._verify.on("click", self._do_verify)

    def _add_filters(self) -> None:
        view = self._view
        given = view.given
        with filters("Filter the log", lambda name, value: view.url(**{name: value}), AUDIT if view.is_narrowed else None) as fields:
            fields.add_text("key_id", "Who", given.get("key_id"), "key_…")
            fields.add_text("action", "Action", given.get("action"), "job.submit, or job.*")
            fields.add_text("noun", "Noun", given.get("noun"), "job, key, alias, …")
            fields.add_text("noun_id", "Thing", given.get("noun_id"), "job_…")
            fields.add_text("since", "Since, UTC", given.get("since"), kind="datetime-local")
            fields.add_text("until", "Before, UTC", given.get("until"), kind="datetime-local")

    async def _refresh(self) -> None:
        await self._listing.read(ask(self._session, lambda client: client.audit.list(self._view.which, after=self._view.after, limit=ROWS)))

    async def _do_verify(self) -> None:
        async def verify() -> None:
            self._verify.attribute("aria-disabled", "true")
            try:
                found = await ask(self._session, lambda client: client.audit.verify())
            finally:
                self._verify.attribute("aria-disabled", None)
            self._verification.show_if(True)
            self._verification.mark_as(f"panel verification {'whole' if found.is_whole else 'broken'}")
            self._found.say(verification_text(found))
            self._noted.clear()
            if found.is_whole and found.num_entries:
                with self._noted:
                    Node("p", "Note the end elsewhere: a later walk can be held against it.", classes="dim")
                    copyable(f"quantry audit verify --expect {found.last_seq}:{found.last_hash}", classes="mono command")

        await self._frame.attempt(verify)


class _Row:
    """One entry; nothing about it ever changes but its age."""

    def __init__(self, entry: AuditEntry) -> None:
        said = data_text(entry.data)
        with Node("tr", role="row") as self.root:
            cell("Entry", f"{entry.seq:,}", classes="number")
            with cell("When"):
                self._when = Node("time", datetime=entry.created_at.isoformat(), title=words.moment_text(entry.created_at))
            with cell("Who"):
                Node("span", who_text(entry), title=entry.key_id)
            cell("Action", entry.action)
            with cell("What"):
                address = noun_address(entry)
                text = words.short_id(entry.noun_id)
                Node("span", text, classes="mono", title=entry.noun_id) if address is None else link(
                    text, address, classes="mono", title=entry.noun_id
                )
            with cell("Details", classes="about"):
                if said:
                    with Node("details", classes="unfolds"):
                        Node("summary", said, classes="cut")

    def show(self, entry: AuditEntry, now: datetime) -> None:
        """Shows how long ago it was."""
        self._when.say(words.ago_text(entry.created_at, now))


def _empty() -> AbstractContextManager[object]:
    return empty_state("The log is empty", "Every change in this project is written here, in the same transaction as the change itself.")


def _none_such() -> AbstractContextManager[object]:
    return empty_state("No entry is like that", "Clear the filters, or go back to the newest.")
