"""/deployments/<name>: one deployment, what it served when, and the way back to any release of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from fastapi import Request

from quantry_core.rollouts import Release, Rollout, ServingPeriod
from quantry_dashboard import facts, words
from quantry_dashboard.asking import ask
from quantry_dashboard.deployments import PATH, deploy_address, deployment_address, rollout_address
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.charts import Chart
from quantry_dashboard.pages.confirmed import Question, action_button, ask_before
from quantry_dashboard.pages.deployment_panel import DeploymentPanel
from quantry_dashboard.pages.panels import WORDS, TableRow, add_table, open_table
from quantry_dashboard.pages.parts import add_crumbs
from quantry_dashboard.rollouts import STATE_CLASSES, strategy_text
from quantry_dashboard.rollouts import state_text as rollout_state
from quantry_dashboard.serving import HISTORY_HEADINGS, RELEASE_HEADINGS, history_options, period_texts, release_text, release_texts
from quantry_dashboard.sessions import Session
from quantry_dashboard.version_filters import version_address

REFRESH_S = 2.0
MAX_ROWS = 20
"""Of a table; the command line pages through all of them."""
ROLLOUT_HEADINGS = ("Rollout", "State", "Strategy", "Begun", "Ended")


def show(session: Session, request: Request) -> None:
    """Builds the page of the deployment that the address names."""
    DeploymentPage(session, request.path_params["name"]).build()


class DeploymentPage:
    """One open page."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name

    def build(self) -> None:
        """Builds the page; the deployment comes with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title=self._name, address=deployment_address(self._name))
        with self._frame.content:
            add_crumbs(("Deployments", PATH), here=self._name)
            with Node("div", classes="heading title"):
                Node("h1", self._name)
                with Node("div", classes="actions"):
                    if facts.hindrance(self._session.identity) is None:
                        link("Deploy another version", deploy_address(self._name), classes="button primary")
            self._arriving = Arriving(self._frame)
            with self._arriving.add_body("job deployments"):
                self._panel = DeploymentPanel(self._session, self._frame, self._name, self._refresh)
                self._history = _History()
                self._releases = _Releases(self._session, self._frame, self._name, self._refresh)
                self._rollouts = _Rollouts(self._name)
        self._arriving.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        deployment = await self._arriving.read(ask(self._session, lambda client: client.deployments.get(self._name)))
        now = datetime.now(UTC)
        _, releases, rollouts = await asyncio.gather(
            self._panel.read(deployment, now),
            ask(self._session, lambda client: client.deployments.releases(self._name, limit=MAX_ROWS)),
            ask(self._session, lambda client: client.deployments.rollouts(self._name, limit=MAX_ROWS)),
        )
        self._history.show(self._panel.reader.periods, now)
        self._releases.show(releases.data, None if deployment.current_release is None else deployment.current_release.id)
        self._rollouts.show(rollouts.data)
        self._arriving.come()


class _History:
    """Shares over time as a picture, and every change in words."""

    def __init__(self) -> None:
        self._shown: Sequence[ServingPeriod] = ()
        with Node("section", classes="panel", aria_label="History"):
            Node("h2", "History")
            self._nothing = Node("p", "Nothing has been served.", classes="dim")
            self._chart = Chart()
            self._table = Node("div")

    def show(self, periods: Sequence[ServingPeriod], now: datetime) -> None:
        """Shows periods, newest first."""
        self._nothing.show_if(not periods)
        if not periods:
            return
        # The end of the picture moves with the minutes, not with every look.
        until = max(now.replace(second=0, microsecond=0), periods[0].began_at)
        self._chart.show(history_options(periods, until), f"Shares of the releases over time, {len(periods)} changes")
        if list(periods) == list(self._shown):
            return
        self._shown = periods
        self._table.clear()
        with self._table:
            rows = [period_texts(period) for period in periods[:MAX_ROWS]]
            add_table("What served when", HISTORY_HEADINGS, (TableRow(row[0], row[1:]) for row in rows), WORDS)
            if len(periods) > MAX_ROWS:
                Node("p", "Earlier ones: quantry deployments history", classes="dim")


class _Releases:
    """Releases, newest first, each with a button to have it serve again."""

    def __init__(self, session: Session, frame: Frame, name: str, refresh: Callable[[], Awaitable[None]]) -> None:
        self._session = session
        self._frame = frame
        self._name = name
        self._refresh = refresh
        self._shown: tuple[list[Release], str | None] = ([], None)
        self._root = Node("section", classes="panel", aria_label="Releases")

    def show(self, releases: Sequence[Release], current_id: str | None) -> None:
        """Shows releases, and which of them serves."""
        if (list(releases), current_id) == self._shown:
            return
        self._shown = (list(releases), current_id)
        hindrance = facts.hindrance(self._session.identity)
        self._root.clear()
        with self._root:
            Node("h2", "Releases")
            with open_table("Releases", RELEASE_HEADINGS, WORDS):
                for release in releases:
                    self._add_row(release, hindrance, is_current=release.id == current_id)
            if hindrance is not None:
                Node("p", hindrance, classes="dim")

    def _add_row(self, release: Release, hindrance: str | None, *, is_current: bool) -> None:
        texts = release_texts(release)
        with Node("tr"):
            Node("th", texts[0], scope="row")
            with Node("td"):
                link(texts[1], version_address(release.version_id), title=release.version_id)
            for text in texts[2:]:
                Node("td", text)
            with Node("td"):
                if is_current:
                    Node("span", "serves", classes="status succeeded")
                    return
                button = action_button("Serve again", "", hindrance)
                button.show_if(True)
                button.attribute("aria-label", f"Serve release {release.number} again")
                if hindrance is None:
                    ask_before(button, _question(release), partial(self._do, release.number))

    async def _do(self, number: int) -> None:
        async def roll_back() -> None:
            await ask(self._session, lambda client: client.deployments.rollback(self._name, number))
            await self._refresh()

        await self._frame.attempt(roll_back)


class _Rollouts:
    """Rollouts, newest first, each with a link to its page."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown: list[Rollout] = []
        self._root = Node("section", classes="panel", aria_label="Rollouts")

    def show(self, rollouts: Sequence[Rollout]) -> None:
        """Shows rollouts."""
        if list(rollouts) == self._shown:
            return
        self._shown = list(rollouts)
        self._root.clear()
        with self._root:
            Node("h2", "Rollouts")
            with open_table("Rollouts", ROLLOUT_HEADINGS, WORDS):
                for rollout in rollouts:
                    self._add_row(rollout)

    def _add_row(self, rollout: Rollout) -> None:
        with Node("tr"):
            with Node("th", scope="row"):
                link(words.short_id(rollout.id), rollout_address(self._name, rollout), title=rollout.id)
            with Node("td"):
                Node("span", rollout_state(rollout), classes=f"status {STATE_CLASSES[rollout.state]}")
            Node("td", strategy_text(rollout))
            Node("td", words.moment_text(rollout.created_at))
            Node("td", "" if rollout.finished_at is None else words.moment_text(rollout.finished_at))


def _question(release: Release) -> Question:
    return Question(
        f"Serve release {release.number} again?",
        f"All requests go to {release_text(release)}: at once where a replica of it is ready, else as soon as one is. A rollout under way "
        "ends.",
        confirm="Serve it again",
        is_dangerous=True,
    )
