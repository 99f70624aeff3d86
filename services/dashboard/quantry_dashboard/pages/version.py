"""/versions/<ref>: one version with everything that is known of it: what it is, where it comes from, how good it is, what uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import Request

from quantry_core.evidence_tables import evidence_tables
from quantry_core.versions import VersionDetail
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.card_panel import CardPanel
from quantry_dashboard.pages.lineage_graph import LineageGraph
from quantry_dashboard.pages.measured import MeasuredPanel
from quantry_dashboard.pages.panels import FactPanel
from quantry_dashboard.pages.parts import add_crumbs, copyable
from quantry_dashboard.pages.version_actions import VersionActions
from quantry_dashboard.pages.version_panels import AliasList, EvidencePanel, FilesPanel, JobsPanel, NotesPanel
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_facts import STATE_CLASSES, facts_of, recipe_facts, state_of, toolchain_facts, what_text, why_held_back
from quantry_dashboard.version_filters import model_address, version_address

REFRESH_S = 5.0
LINEAGE_EVERY = 6
"""What was made from a version changes seldom, and so do jobs that use it."""
MAX_JOBS = 10


def show(session: Session, request: Request) -> None:
    """Builds the page of the version that the address names."""
    VersionPage(session, str(request.path_params["ref"])).build()


class VersionPage:
    """One open page. A name that may come to mean another version, such as ``bard@production``, is kept to what it meant at first."""

    def __init__(self, session: Session, ref: str) -> None:
        self._session = session
        self._ref = ref
        self._num_refreshes = 0
        self._body: _Body | None = None

    def build(self) -> None:
        """Builds the page; the version comes with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title=f"Version {self._ref}", address=version_address(self._ref))
        with self._frame.content:
            self._arriving = Arriving(self._frame)
            self._all = self._arriving.add_body("job version")
        self._arriving.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        version = await self._arriving.read(ask(self._session, lambda client: client.versions.get(self._ref)))
        self._ref = version.id
        if self._body is None:
            with self._all:
                self._body = _Body(self._session, self._frame, version, self._refresh)
        self._body.show(version)
        self._arriving.come()
        await self._body.read(version, is_everything=self._num_refreshes % LINEAGE_EVERY == 0)
        self._num_refreshes += 1


class _Body:
    """What a page shows once its version is known."""

    def __init__(self, session: Session, frame: Frame, version: VersionDetail, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        model = model_address(version.model_name)
        add_crumbs(("Models", "/models"), (version.model_name, model), here=f"@{version.number}")
        with Node("section", classes="panel header", aria_label="Version"):
            with Node("div", classes="heading"):
                Node("h1", version.ref)
                self._state = Node("span", classes="status")
                self._aliases = AliasList(model)
            Node("p", what_text(version), classes="dim")
            copyable(version.id)
            self._why = Node("div", classes="banner held-back", role="note", hidden="hidden")
            self._actions = VersionActions(session, frame, refresh)
        self._lineage = LineageGraph()
        with Node("div", classes="columns"):
            with Node("div", classes="column"):
                self._facts = FactPanel("Version")
                self._notes = NotesPanel(session, frame, version.id, refresh)
                self._recipe = FactPanel("Recipe")
                self._toolchain = FactPanel("Toolchain")
            with Node("div", classes="column"):
                self._evidence = EvidencePanel()
                self._measured = MeasuredPanel()
                self._files = FilesPanel()
                self._jobs = JobsPanel("Jobs that were given it")
                self._card = CardPanel()
        self._shown_why: list[str] = []
        self._names: dict[str, str] = {}

    def show(self, version: VersionDetail) -> None:
        """Shows a version as it is now."""
        state = state_of(version)
        self._state.say(state)
        self._state.mark_as(f"status {STATE_CLASSES[state]}")
        self._actions.show(version)
        self._show_why(why_held_back(version))
        self._facts.show(facts_of(version, self._names))
        self._recipe.show(recipe_facts(version))
        self._toolchain.show(toolchain_facts(version))
        self._evidence.show(version)
        self._measured.show(evidence_tables(version))
        self._files.show(version)

    async def read(self, version: VersionDetail, *, is_everything: bool) -> None:
        """Reads and shows what lies beside a version; raises as ``ask`` does."""
        notes, aliases = await asyncio.gather(
            ask(self._session, lambda client: client.versions.notes(version.id)),
            ask(self._session, lambda client: client.models.aliases(version.model_name)),
        )
        self._notes.show(notes)
        self._aliases.show([alias.alias for alias in aliases if alias.version_id == version.id])
        if not is_everything:
            return
        lineage, jobs, card = await asyncio.gather(
            ask(self._session, lambda client: client.versions.lineage(version.id)),
            ask(self._session, lambda client: client.jobs.list(uses=version.id, limit=MAX_JOBS)),
            ask(self._session, lambda client: client.versions.card(version.id)),
        )
        self._lineage.show(lineage)
        self._names = {node.id: node.label for node in lineage.nodes}
        self._facts.show(facts_of(version, self._names))
        self._jobs.show(jobs.data, has_more=jobs.has_more, names={version.id: version.ref})
        self._card.show(card)

    def _show_why(self, sentences: list[str]) -> None:
        if sentences == self._shown_why:
            return
        self._shown_why = sentences
        self._why.show_if(bool(sentences))
        self._why.clear()
        with self._why:
            Node("strong", "Quarantined: nothing is made from it or served. Why:")
            with Node("ul"):
                for sentence in sentences:
                    Node("li", sentence)
