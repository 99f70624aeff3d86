"""/deployments: what is served, with which shares, and every rollout under way with what was measured and the buttons to decide."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from fastapi import Request

from quantry_dashboard import facts
from quantry_dashboard.asking import ask
from quantry_dashboard.deployments import PATH, deploy_address
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.deployment_panel import DeploymentPanel
from quantry_dashboard.pages.listing import address_of, after_of
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.sessions import Session

REFRESH_S = 2.0
FIRST_DEPLOYMENT = "quantry deploy --deployment bard --version bard-6m@2"


def show(session: Session, request: Request) -> None:
    """Builds the page of deployments that follow the one the address names."""
    DeploymentsPage(session, after_of(request.query_params)).build()


class DeploymentsPage:
    """One open page."""

    def __init__(self, session: Session, after: str | None) -> None:
        self._session = session
        self._after = after
        self._panels: dict[str, DeploymentPanel] = {}

    def build(self) -> None:
        """Builds the page; its deployments come with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Deployments", address=address_of(PATH, after=self._after))
        with self._frame.content:
            with Node("div", classes="heading title"):
                Node("h1", "Deployments")
                with Node("div", classes="actions"):
                    if facts.hindrance(self._session.identity) is None:
                        link("Deploy", deploy_address(), classes="button primary")
            self._loading = Node("p", "Loading…", classes="dim", role="status")
            with Node("div", hidden="hidden") as self._empty:
                empty_state(
                    "Nothing is deployed",
                    "A version is served under a deployment's name, which stays when the version changes:",
                    FIRST_DEPLOYMENT,
                )
            self._all = Node("div", classes="job deployments")
            with Node("nav", classes="pages", aria_label="Pages"):
                link("Newest", PATH, hidden=None if self._after else "hidden")
                self._older = link("Older", "#", hidden="hidden")
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        try:
            page = await ask(self._session, lambda client: client.deployments.list(after=self._after))
        finally:
            self._loading.show_if(False)
        self._empty.show_if(not page.data and self._after is None)
        self._older.show_if(page.has_more)
        if page.has_more and page.last_id is not None:
            self._older.attribute("href", address_of(PATH, after=page.last_id))
        known = {deployment.id for deployment in page.data}
        for gone in [id_ for id_ in self._panels if id_ not in known]:
            self._panels.pop(gone).root.delete()
        now = datetime.now(UTC)
        for place, deployment in enumerate(page.data):
            if deployment.id not in self._panels:
                with self._all:
                    self._panels[deployment.id] = DeploymentPanel(self._session, self._frame, deployment.name, self._refresh)
                self._panels[deployment.id].root.move(self._all, place)
        await asyncio.gather(*(self._panels[deployment.id].read(deployment, now) for deployment in page.data))
