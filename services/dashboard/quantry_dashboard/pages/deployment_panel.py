"""One deployment: what serves with which shares, its rollout with what was measured, its replicas and adapters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from quantry_core.rollouts import Deployment, Rollout
from quantry_core.traffic import RolloutTraffic
from quantry_dashboard import facts
from quantry_dashboard.asking import ask
from quantry_dashboard.deployments import (
    ADAPTER_HEADINGS,
    REPLICA_HEADINGS,
    adapter_texts,
    deployment_address,
    deployment_facts,
    replica_texts,
    rollout_address,
    state_text,
)
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.confirmed import Question, action_button, ask_before
from quantry_dashboard.pages.panels import WORDS, TableRow, add_table
from quantry_dashboard.pages.rollout_actions import RolloutActions
from quantry_dashboard.pages.rollout_panels import FactList, RolloutBody, ShareBar
from quantry_dashboard.rollouts import STATE_CLASSES
from quantry_dashboard.rollouts import state_text as rollout_state
from quantry_dashboard.serving import parts_of, release_name
from quantry_dashboard.serving_reader import ServingReader
from quantry_dashboard.sessions import Session

UNDO = Question(
    "Roll back to the release before?",
    "It is still warm: it gets all requests at once.",
    confirm="Roll it back",
    is_dangerous=True,
)


class DeploymentPanel:
    """A panel that is told again and again how a deployment is. Each part draws itself anew only when something about it has changed."""

    def __init__(self, session: Session, frame: Frame, name: str, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._name = name
        self._refresh = refresh
        self._reader = ServingReader(session, name)
        self._shown: Deployment | None = None
        self._undone_to: int | None = None
        self.root = Node("section", classes="panel", aria_label=name)
        with self.root:
            with Node("div", classes="heading"):
                with Node("h2"):
                    link(name, deployment_address(name))
                self._state = Node("span", classes="status")
            with Node("div", classes="deployment"):
                self._shares = ShareBar()
                self._facts = FactList()
                self._build_rollout()
                self._tables = Node("div", classes="deployment")

    @property
    def reader(self) -> ServingReader:
        """What is known of its releases and of what it served."""
        return self._reader

    async def read(self, deployment: Deployment, now: datetime) -> None:
        """Reads what belongs to a deployment as it is now, and shows all of it; raises as ``ask`` does."""
        rollout = deployment.active_rollout or deployment.watched_rollout
        await self._reader.read(deployment, rollout)
        traffic = await self._reader.traffic(rollout)
        self.show(deployment, rollout, traffic, now)

    def show(self, deployment: Deployment, rollout: Rollout | None, traffic: RolloutTraffic | None, now: datetime) -> None:
        """Shows a deployment, and its rollout where one is under way or watched."""
        self._shares.show(parts_of(deployment, self._reader.releases))
        self._show_rollout(deployment, rollout, traffic, now)
        if deployment == self._shown:
            return
        self._shown = deployment
        state = state_text(deployment)
        self._state.say(state)
        self._state.mark_as("status succeeded" if state == "serves" else "status waiting")
        self._facts.show(deployment_facts(deployment))
        self._tables.clear()
        with self._tables:
            if deployment.replicas:
                add_table("Replicas", REPLICA_HEADINGS, (_row(replica_texts(deployment, one)) for one in deployment.replicas), WORDS)
            if deployment.adapters:
                add_table("Adapters", ADAPTER_HEADINGS, (_row(adapter_texts(deployment, one)) for one in deployment.adapters), WORDS)

    def _build_rollout(self) -> None:
        hindrance = facts.hindrance(self._session.identity)
        with Node("div", classes="inner", hidden="hidden", role="group", aria_label=f"Rollout of {self._name}") as self._rollout:
            with Node("div", classes="heading"):
                with Node("h3"):
                    self._title = link("Rollout", "#")
                self._rollout_state = Node("span", classes="status")
                self._actions = RolloutActions(self._session, self._frame, self._refresh)
                self._undo = action_button("Roll back", "danger", hindrance)
                if hindrance is None:
                    self._undo_words = ask_before(self._undo, UNDO, self._do_undo)
            self._body = RolloutBody()

    def _show_rollout(self, deployment: Deployment, rollout: Rollout | None, traffic: RolloutTraffic | None, now: datetime) -> None:
        self._rollout.show_if(rollout is not None)
        if rollout is None:
            return
        is_watched = deployment.active_rollout is None
        self._title.attribute("href", rollout_address(self._name, rollout))
        self._title.say("Rollout, watched" if is_watched else "Rollout")
        self._rollout_state.say(rollout_state(rollout))
        self._rollout_state.mark_as(f"status {STATE_CLASSES[rollout.state]}")
        self._actions.show(rollout)
        self._show_undo(rollout, is_watched=is_watched)
        self._body.show(rollout, self._reader.releases, self._reader.periods, traffic, now)

    def _show_undo(self, rollout: Rollout, *, is_watched: bool) -> None:
        before = self._reader.releases.get(rollout.from_release_id or "")
        self._undone_to = before.number if is_watched and before is not None else None
        self._undo.show_if(self._undone_to is not None)
        if self._undone_to is not None and facts.hindrance(self._session.identity) is None:
            name = release_name(rollout.from_release_id, self._reader.releases)
            self._undo_words.say(f"{name[:1].upper()}{name[1:]} is still warm: it gets all requests at once.")

    async def _do_undo(self) -> None:
        number = self._undone_to
        if number is None:
            return

        async def undo() -> None:
            # By its number, so that a second click finds it serving already and changes nothing.
            await ask(self._session, lambda client: client.deployments.rollback(self._name, number))
            await self._refresh()

        await self._frame.attempt(undo)


def _row(texts: tuple[str, ...]) -> TableRow:
    return TableRow(texts[0], texts[1:])
