"""/models/<name>: a model's versions, how large and how good they are, and what its aliases mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from fastapi import Request

from quantry import Client
from quantry_core.aliases import Alias, AliasChange
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.aliases_panel import AliasesPanel
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.parts import add_crumbs, trouble
from quantry_dashboard.pages.scatter_panel import ScatterPanel
from quantry_dashboard.pages.versions_table import VersionsTable
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_facts import compare_address
from quantry_dashboard.version_filters import ModelView, parse_view

REFRESH_S = 5.0
FIGURES_EVERY_S = 60.0
"""What was measured changes with jobs that end; of a thousand versions it is much to read."""


def show(session: Session, request: Request) -> None:
    """Builds the page as the address narrows it."""
    view, problems = parse_view(str(request.path_params["name"]), request.query_params)
    ModelPage(session, view, problems).build()


class ModelPage:
    """One open page."""

    def __init__(self, session: Session, view: ModelView, problems: list[str]) -> None:
        self._session = session
        self._view = view
        self._problems = problems
        self._figures_due_s = 0.0
        self._changes: dict[str, tuple[datetime, Sequence[AliasChange]]] = {}
        self._numbers: dict[str, int] = {}

    def build(self) -> None:
        """Builds the page; what it shows comes with the first refresh, once the browser is connected."""
        name = self._view.model
        self._frame = Frame(self._session, title=name, address=self._view.url())
        with self._frame.content:
            add_crumbs(("Models", "/models"), here=name)
            with Node("div", classes="heading title"):
                Node("h1", name)
                with Node("div", classes="actions"):
                    Node("a", "Compare versions", href=compare_address(name, ""), classes="button")
            for problem in self._problems:
                trouble(problem)
            self._arriving = Arriving(self._frame)
            with self._arriving.add_body("job model"):
                self._scatter = ScatterPanel(self._view)
                self._aliases = AliasesPanel(self._session, self._frame, name, self._refresh)
                self._versions = VersionsTable(self._view)
        self._arriving.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        now = datetime.now(UTC)
        try:
            aliases, page = await self._arriving.read(
                asyncio.gather(
                    ask(self._session, lambda client: client.models.aliases(self._view.model)), ask(self._session, self._view.ask)
                )
            )
        except NotDone:
            self._versions.fail()
            raise
        self._numbers |= {version.id: version.number for version in page.data}
        changes = await ask(self._session, lambda client: self._changes_of(client, aliases))
        self._arriving.come()
        self._aliases.show(aliases, changes, self._known_numbers(aliases, changes), now)
        self._versions.tell_aliases(_by_version(aliases))
        self._versions.show(page, now)
        # Of many versions it takes a while: the table does not wait for it.
        if await self._read_figures():
            self._aliases.show(aliases, changes, self._known_numbers(aliases, changes), now)
            self._versions.show(page, now)

    async def _read_figures(self) -> bool:
        """Reads what was measured, and returns True, where that was not done of late."""
        if time.monotonic() < self._figures_due_s:
            return False
        figures = await ask(self._session, lambda client: client.models.figures(self._view.model))
        self._figures_due_s = time.monotonic() + FIGURES_EVERY_S
        self._numbers |= {version.id: version.number for version in figures.data}
        measure = self._scatter.show(figures)
        self._versions.tell_figures({version.id: version for version in figures.data}, measure)
        return True

    def _known_numbers(self, aliases: Sequence[Alias], changes: Sequence[AliasChange]) -> Mapping[str, int]:
        """Returns the numbers of the versions that aliases name: a panel is drawn anew for these alone."""
        named = {alias.version_id for alias in aliases}
        named |= {id_ for change in changes for id_ in (change.version_id, change.previous_version_id) if id_ is not None}
        return {id_: self._numbers[id_] for id_ in sorted(named & self._numbers.keys())}

    def _changes_of(self, client: Client, aliases: Sequence[Alias]) -> list[AliasChange]:
        """Returns the moves of these aliases, newest first; what was read of one that has not moved since is not read again."""
        for alias in aliases:
            known = self._changes.get(alias.alias)
            if known is None or known[0] != alias.updated_at:
                self._changes[alias.alias] = alias.updated_at, client.models.alias_history(self._view.model, alias.alias)
        changes = [change for _, history in self._changes.values() for change in history]
        return sorted(changes, key=lambda change: change.created_at, reverse=True)


def _by_version(aliases: Sequence[Alias]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for alias in aliases:
        found.setdefault(alias.version_id, []).append(alias.alias)
    return {version_id: ", ".join(names) for version_id, names in found.items()}
