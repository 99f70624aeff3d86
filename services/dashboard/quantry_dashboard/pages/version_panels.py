"""Panels of a version's page: evidence, files, labels and notes, jobs that were given it. Each is drawn anew only when it has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from quantry_core.evidence_tables import checks
from quantry_core.jobs import Job
from quantry_core.version_notes import VersionNotes, VersionNotesChange
from quantry_core.versions import VersionDetail
from quantry_dashboard import facts, words
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.confirmed import Question, plain_button
from quantry_dashboard.pages.dialogs import Answers, AskedField, FieldKind, PageDialog
from quantry_dashboard.pages.panels import WORDS, TableRow, add_table, open_table
from quantry_dashboard.pages.parts import copyable
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_facts import (
    FILE_HEADINGS,
    QUALITY_HEADINGS,
    VERDICT_CLASSES,
    file_address,
    labels_of,
    quality_rows,
)

MAX_FILES = 200


class EvidencePanel:
    """Quality against the master with its intervals, and what each check of the gate found."""

    def __init__(self) -> None:
        self._shown: VersionDetail | None = None
        self._root = Node("section", classes="panel", aria_label="Evidence")

    def show(self, version: VersionDetail) -> None:
        """Shows a version's newest evidence."""
        if self._shown is not None and version.evidence == self._shown.evidence:
            return
        self._shown = version
        self._root.clear()
        with self._root:
            Node("h2", "Evidence")
            rows = quality_rows(version)
            if rows:
                Node("h3", "Quality against another version")
                add_table("Quality", QUALITY_HEADINGS, (TableRow(row[0], row[1:]) for row in rows), WORDS)
            found = checks(version)
            if found:
                Node("h3", "Checks of its gate")
                with open_table("Checks of the gate", ("Check", "Verdict", "Found"), WORDS):
                    for check in found:
                        with Node("tr"):
                            Node("th", check.name, scope="row")
                            with Node("td"):
                                Node("span", check.verdict, classes=f"status {VERDICT_CLASSES[check.verdict]}")
                            Node("td", check.found, classes="found")
            if not rows and not found:
                Node(
                    "p", "Nothing was measured so far. An evaluate job compares it with another version, on text and tasks.", classes="dim"
                )


class FilesPanel:
    """Every file with its digest, and a way to fetch it."""

    def __init__(self) -> None:
        self._is_built = False
        self._root = Node("section", classes="panel", aria_label="Files")

    def show(self, version: VersionDetail) -> None:
        """Shows the files, which never change."""
        if self._is_built:
            return
        self._is_built = True
        with self._root:
            Node("h2", "Files")
            with open_table("Files", FILE_HEADINGS, WORDS):
                for file in version.files[:MAX_FILES]:
                    with Node("tr"):
                        Node("th", file.path, scope="row", classes="mono")
                        Node("td", words.bytes_text(file.size_bytes))
                        with Node("td"):
                            copyable(file.sha256, shown=f"{file.sha256[:12]}…")
                        with Node("td"):
                            link("Download", file_address(version.id, file.path), download="", aria_label=f"Download {file.path}")
            if len(version.files) > MAX_FILES:
                Node("p", f"and {len(version.files) - MAX_FILES} more", classes="dim")
            Node("p", "All of them, checked against their digests:", classes="dim note")
            copyable(f"quantry versions export {version.ref} ./{version.model_name}-{version.number}")


class NotesPanel:
    """Labels and notes; operators may write them."""

    def __init__(self, session: Session, frame: Frame, ref: str, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._ref = ref
        self._refresh = refresh
        self._written = ("", "")
        hindrance = facts.hindrance(session.identity)
        with Node("section", classes="panel", aria_label="Labels and notes"):
            with Node("div", classes="heading"):
                Node("h2", "Labels and notes")
                with Node("div", classes="actions"):
                    edit = plain_button("Edit", label="Edit labels and notes", hindrance=hindrance)
                    edit.on("click", self._ask)
            self._dialog = PageDialog(frame)
            self._labels = Node("p", classes="label-list")
            self._notes = Node("p", classes="notes")
            self._nothing = Node("p", "Nobody has written anything.", classes="dim", hidden="hidden")

    def show(self, notes: VersionNotes) -> None:
        """Shows what was written."""
        labels = words.labels_text(notes.tags)
        self._labels.say(labels)
        self._labels.show_if(bool(labels))
        self._notes.say(notes.notes)
        self._notes.show_if(bool(notes.notes))
        self._nothing.show_if(not labels and not notes.notes)
        self._written = (labels, notes.notes)

    def _ask(self) -> None:
        labels, notes = self._written
        fields = (AskedField("labels", "Labels", labels, "golden stage=test"), AskedField("notes", "Notes", notes, kind=FieldKind.LONG))
        question = Question("Labels and notes", "The version itself never changes.", confirm="Save", keep="Cancel")
        self._dialog.ask(question, self._save, fields)

    async def _save(self, answers: Answers) -> None:
        change = VersionNotesChange(tags=labels_of(answers.text("labels")), notes=answers.text("notes"))
        await ask(self._session, lambda client: client.versions.annotate(self._ref, change))
        await self._frame.look(self._refresh)


class JobsPanel:
    """Jobs that were given a version or a dataset, newest first, and where more of them are. Hidden while there are none."""

    def __init__(self, heading: str) -> None:
        self._shown: list[str] = []
        self._heading = heading
        self._root = Node("section", classes="panel", hidden="hidden", aria_label=heading)

    def show(self, jobs: Sequence[Job], *, has_more: bool, names: Mapping[str, str] = words.NO_NAMES) -> None:
        """Shows jobs. ``names``: as for ``words.about``."""
        seen = [f"{job.id} {job.status}" for job in jobs]
        if seen == self._shown:
            return
        self._shown = seen
        self._root.show_if(bool(jobs))
        self._root.clear()
        with self._root:
            Node("h2", self._heading)
            with open_table(self._heading, ("Job", "Type", "Status", "About", "Made"), WORDS):
                for job in jobs:
                    with Node("tr"):
                        with Node("th", scope="row"):
                            link(words.short_id(job.id), f"/jobs/{job.id}", title=job.id)
                        Node("td", job.type)
                        with Node("td"):
                            Node("span", job.status, classes=f"status {job.status}")
                        Node("td", words.about(job, names))
                        Node("td", words.moment_text(job.created_at))
            if has_more:
                Node("p", "and earlier ones", classes="dim note")


class AliasList:
    """The aliases that point at a version, and a link to where they are moved."""

    def __init__(self, model_address: str) -> None:
        self._shown: list[str] | None = None
        self._address = model_address
        self._root = Node("span", classes="aliases")

    def show(self, aliases: Sequence[str]) -> None:
        """Shows names of aliases."""
        if list(aliases) == self._shown:
            return
        self._shown = list(aliases)
        self._root.clear()
        with self._root:
            for alias in aliases:
                link(alias, self._address, classes="chip", title="An alias of the model: it is moved there")
