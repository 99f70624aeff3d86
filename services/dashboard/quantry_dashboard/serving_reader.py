"""Reading of the API what a page shows of a deployment's rollout: not more than has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from quantry import Client
from quantry_core.pages import MAX_LIMIT
from quantry_core.rollouts import Deployment, Release, Rollout, ServingPeriod
from quantry_core.traffic import RolloutTraffic
from quantry_core.traffic_spans import SPANS_S, RolloutSpans
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.sessions import Session

T = TypeVar("T")

_REST = 9
"""Times that a question for figures took until the next one: adding up a rollout of days takes seconds of the database's time."""


class _Figures(Generic[T]):
    """Figures of one rollout at a time. What a rollout is, and the buttons to decide about it, do not wait for them."""

    def __init__(self, session: Session, question: Callable[[Client, str], T], *, least_rest_s: float = 0.0) -> None:
        self._session = session
        self._question = question
        self._least_rest_s = least_rest_s
        self._told: T | None = None
        self._measured: tuple[str, object] | None = None
        """Of which rollout in which state these figures are."""
        self._due_s = 0.0

    async def of(self, rollout: Rollout | None) -> T | None:
        """Returns a rollout's figures; those told before where they cannot be told now, or where that has just taken long."""
        if rollout is None or rollout.exposed_at is None:
            return None
        measured = (rollout.id, rollout.state)
        if self._measured is not None and self._measured[0] != rollout.id:
            self._told = None
        began_s = self._session.clock_s()
        if measured == self._measured and began_s < self._due_s:
            return self._told
        self._measured = measured
        with suppress(NotDone):
            self._told = await ask(self._session, lambda client: self._question(client, rollout.id))
        ended_s = self._session.clock_s()
        self._due_s = ended_s + max(self._least_rest_s, _REST * (ended_s - began_s))
        return self._told


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

    def __post_init__(self) -> None:
        self._traffic = _Figures(self.session, lambda client, rollout_id: client.rollouts.traffic(rollout_id))
        self._spans = _Figures(self.session, lambda client, rollout_id: client.rollouts.spans(rollout_id), least_rest_s=SPANS_S[0])

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
        """Returns what was measured of both releases; None where the candidate has had no traffic, or nothing could be told yet."""
        return await self._traffic.of(rollout)

    async def spans(self, rollout: Rollout | None) -> RolloutSpans | None:
        """Returns the same span by span; None likewise."""
        return await self._spans.of(rollout)
