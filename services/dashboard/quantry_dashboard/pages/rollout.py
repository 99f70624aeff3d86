"""/deployments/<name>/rollouts/<id>: one rollout, live while it is not over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from fastapi import Request

from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Deployment, Rollout
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.deployments import PATH, deployment_address
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.panels import WORDS, TableRow, add_table
from quantry_dashboard.pages.parts import add_crumbs
from quantry_dashboard.pages.rollout_actions import RolloutActions
from quantry_dashboard.pages.rollout_panels import RolloutBody, ShareBar
from quantry_dashboard.pages.traffic_panel import TrafficCharts
from quantry_dashboard.rollouts import STATE_CLASSES
from quantry_dashboard.rollouts import state_text as rollout_state
from quantry_dashboard.serving import HISTORY_HEADINGS, parts_of, period_texts, reason_text
from quantry_dashboard.serving_reader import ServingReader
from quantry_dashboard.sessions import Session

REFRESH_S = 1.0


def show(session: Session, request: Request) -> None:
    """Builds the page of the rollout that the address names."""
    RolloutPage(session, request.path_params["name"], request.path_params["rollout_id"]).build()


class RolloutPage:
    """One open page."""

    def __init__(self, session: Session, name: str, rollout_id: str) -> None:
        self._session = session
        self._name = name
        self._rollout_id = rollout_id
        self._reader = ServingReader(session, name)
        self._num_changes = -1

    def build(self) -> None:
        """Builds the page; the rollout comes with the first refresh, once the browser is connected."""
        address = f"{deployment_address(self._name)}/rollouts/{self._rollout_id}"
        self._frame = Frame(self._session, title=f"Rollout of {self._name}", address=address)
        with self._frame.content:
            add_crumbs(("Deployments", PATH), (self._name, deployment_address(self._name)), here=self._rollout_id, is_id=True)
            self._arriving = Arriving(self._frame)
            with self._arriving.add_body():
                self._build_panels()
        self._timer = self._arriving.refresh_every(REFRESH_S, self._refresh)

    def _build_panels(self) -> None:
        with Node("section", classes="panel header", aria_label="Status"):
            with Node("div", classes="heading"):
                Node("h1", f"Rollout of {self._name}")
                self._actions = RolloutActions(self._session, self._frame, self._refresh)
            with Node("div", classes="state", role="status"):
                self._state = Node("span", classes="status")
                self._reason = Node("span", classes="reason")
            self._shares = ShareBar()
        with Node("section", classes="panel", aria_label="Rollout"):
            self._body = RolloutBody()
        self._charts = TrafficCharts()
        with Node("section", classes="panel", aria_label="Changes"):
            Node("h2", "What it changed")
            self._changes = Node("div")

    async def _refresh(self) -> None:
        rollout, deployment = await self._arriving.read(self._read())
        await self._reader.read(deployment, rollout)
        traffic, spans = await asyncio.gather(self._reader.traffic(rollout), self._reader.spans(rollout))
        self._actions.show(rollout)
        self._state.say(rollout_state(rollout))
        self._state.mark_as(f"status {STATE_CLASSES[rollout.state]}")
        self._reason.say(reason_text(rollout))
        self._shares.show(parts_of(deployment, self._reader.releases))
        self._body.show(rollout, self._reader.releases, self._reader.periods, traffic, datetime.now(UTC))
        self._charts.show(spans)
        self._show_changes()
        self._arriving.come()
        if _is_settled(rollout):
            # Nothing about it changes any more.
            self._timer.deactivate()

    async def _read(self) -> tuple[Rollout, Deployment]:
        rollout, deployment = await asyncio.gather(
            ask(self._session, lambda client: client.rollouts.get(self._rollout_id)),
            ask(self._session, lambda client: client.deployments.get(self._name)),
        )
        if rollout.deployment_id != deployment.id:
            raise NotDone(f"Rollout {rollout.id} is not one of {self._name}.", status=404)
        return rollout, deployment

    def _show_changes(self) -> None:
        own = [period for period in self._reader.periods if period.rollout_id == self._rollout_id]
        if len(own) == self._num_changes:
            return
        self._num_changes = len(own)
        self._changes.clear()
        with self._changes:
            if own:
                add_table("What it changed", HISTORY_HEADINGS, (TableRow(row[0], row[1:]) for row in map(period_texts, own)), WORDS)
            else:
                Node("p", "Nothing so far.", classes="dim")


def _is_settled(rollout: Rollout) -> bool:
    """Tells whether a rollout is over, its watch included."""
    if rollout.state in ACTIVE_ROLLOUT_STATES:
        return False
    return rollout.watch_until is None or rollout.watch_until <= datetime.now(UTC)
