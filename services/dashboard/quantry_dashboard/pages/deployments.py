"""/deployments: what is served, by which releases and replicas, with which adapters. It only looks."""

from __future__ import annotations

from urllib.parse import quote

from quantry_core.rollouts import Deployment
from quantry_dashboard.asking import ask
from quantry_dashboard.deployments import (
    ADAPTER_HEADINGS,
    REPLICA_HEADINGS,
    adapter_texts,
    deployment_facts,
    replica_texts,
    state_text,
)
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.panels import TableRow, add_table
from quantry_dashboard.sessions import Session

PATH = "/deployments"
REFRESH_S = 2.0
FIRST_DEPLOYMENT = "quantry jobs submit deploy --deployment bard --version bard-6m@2"


class DeploymentsPage:
    """One open page."""

    def __init__(self, session: Session, after: str | None) -> None:
        self._session = session
        self._after = after
        self._panels: dict[str, _Panel] = {}

    def build(self) -> None:
        """Builds the page; its deployments come with the first refresh, once the browser is connected."""
        address = PATH if self._after is None else _address(self._after)
        self._frame = Frame(self._session, title="Deployments", address=address)
        with self._frame.content:
            Node("h1", "Deployments")
            self._loading = Node("p", "Loading…", classes="dim", role="status")
            with Node("div", classes="panel empty", hidden="hidden") as self._empty:
                Node("h2", "Nothing is deployed")
                Node("pre", FIRST_DEPLOYMENT, classes="command", tabindex="0")
            self._all = Node("div", classes="job deployments")
            with Node("nav", classes="pages", aria_label="Pages"):
                link("Newest", PATH, hidden=None if self._after else "hidden")
                self._older = link("Older", "#", hidden="hidden")
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        page = await ask(self._session, lambda client: client.deployments.list(after=self._after))
        self._loading.show_if(False)
        self._empty.show_if(not page.data and self._after is None)
        self._show(page.data)
        self._older.show_if(page.has_more)
        if page.has_more and page.last_id is not None:
            self._older.attribute("href", _address(page.last_id))

    def _show(self, deployments: list[Deployment]) -> None:
        known = {deployment.id for deployment in deployments}
        for gone in [id_ for id_ in self._panels if id_ not in known]:
            self._panels.pop(gone).root.delete()
        for place, deployment in enumerate(deployments):
            if deployment.id not in self._panels:
                with self._all:
                    self._panels[deployment.id] = _Panel(deployment.name)
                self._panels[deployment.id].root.move(self._all, place)
            self._panels[deployment.id].show(deployment)


class _Panel:
    """One deployment. It draws itself anew only when something about it has changed."""

    def __init__(self, name: str) -> None:
        self._shown: Deployment | None = None
        self.root = Node("section", classes="panel", aria_label=name)
        with self.root:
            with Node("div", classes="heading"):
                Node("h2", name)
                self._state = Node("span", classes="status")
            self._body = Node("div", classes="deployment")

    def show(self, deployment: Deployment) -> None:
        """Shows a deployment as it is now."""
        if deployment == self._shown:
            return
        self._shown = deployment
        state = state_text(deployment)
        self._state.say(state)
        self._state.mark_as("status succeeded" if state == "serves" else "status waiting")
        self._body.clear()
        with self._body:
            with Node("dl", classes="facts"):
                for fact in deployment_facts(deployment):
                    Node("dt", fact.name)
                    with Node("dd"):
                        Node("span", fact.text) if fact.href is None else link(fact.text, fact.href)
            if deployment.replicas:
                add_table("Replicas", REPLICA_HEADINGS, (_row(replica_texts(deployment, one)) for one in deployment.replicas))
            if deployment.adapters:
                add_table("Adapters", ADAPTER_HEADINGS, (_row(adapter_texts(deployment, one)) for one in deployment.adapters))


def _row(texts: tuple[str, ...]) -> TableRow:
    return TableRow(texts[0], texts[1:])


def _address(after: str) -> str:
    return f"{PATH}?after={quote(after, safe='')}"
