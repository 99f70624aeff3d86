"""Reading of the API what a page shows of a deployment's rollout: not more than has changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from quantry_core.pages import MAX_LIMIT
from quantry_core.rollouts import Deployment, Release, Rollout, ServingPeriod
from quantry_core.traffic import RolloutTraffic
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.sessions import Session

_REST = 9
"""Times that a question for figures took until the next one: adding up a rollout of days takes seconds of the database's time."""


@dataclass
class ServingReader:
    """Of one deployment: its releases and periods are read again only when there is something new about them."""

    session: Session
    name: str
    releases: dict[str, Release] = field(default_factory=dict)
    periods: Sequence[ServingPeriod] = ()
    _seen: tuple[object, ...] | None = None
    _not_found: set[str] = field(default_factory=set)
    """Releases that are older than those that were read: not looked for again."""
    _traffic: RolloutTraffic | None = None
    _measured: tuple[object, ...] | None = None
    """Of which rollout in which state these figures are."""
    _traffic_due_s: float = 0.0

    async def read(self, deployment: Deployment, rollout: Rollout | None) -> None:
        """Brings releases and periods up to date with a deployment and the rollout that is shown of it."""
        await self.know_releases(deployment, rollout)
        shown = None if rollout is None else (rollout.id, rollout.state, rollout.stage, rollout.percent)
        seen = (None if deployment.current_release is None else deployment.current_release.id, deployment.is_stopped, shown)
        if seen != self._seen:
            page = await ask(self.session, lambda client: client.deployments.history(self.name, limit=MAX_LIMIT))
            self.periods, self._seen = page.data, seen

    async def know_releases(self, deployment: Deployment, rollout: Rollout | None) -> None:
        """Reads the newest releases where one that is spoken of is not known yet."""
        if deployment.current_release is not None:
            self.releases[deployment.current_release.id] = deployment.current_release
        named = set() if rollout is None else {rollout.to_release_id, *([rollout.from_release_id] if rollout.from_release_id else [])}
        if named - self.releases.keys() - self._not_found:
            page = await ask(self.session, lambda client: client.deployments.releases(self.name, limit=MAX_LIMIT))
            self.releases |= {release.id: release for release in page.data}
            self._not_found |= named - self.releases.keys()

    async def traffic(self, rollout: Rollout | None) -> RolloutTraffic | None:
        """Returns what was measured of both releases; None where the candidate has had no traffic.

        Where it cannot be told now, or has just taken long, the figures told before: what a rollout is, and the buttons to decide about it,
        do not wait for them.
        """
        if rollout is None or rollout.exposed_at is None:
            return None
        measured = (rollout.id, rollout.state)
        if self._measured is not None and self._measured[0] != rollout.id:
            self._traffic = None
        began_s = self.session.clock_s()
        if measured == self._measured and began_s < self._traffic_due_s:
            return self._traffic
        self._measured = measured
        with suppress(NotDone):
            self._traffic = await ask(self.session, lambda client: client.rollouts.traffic(rollout.id))
        ended_s = self.session.clock_s()
        self._traffic_due_s = ended_s + _REST * (ended_s - began_s)
        return self._traffic
