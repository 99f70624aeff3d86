"""What is known of the traffic of rollouts that are judged: read from the store little by little, kept small.

Gateways tell one window a second for each release. Windows are merged into spans of equal length, twice as long whenever there are
more than MAX_SPANS, so that an experiment of a month costs as much memory and as little time as one of a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from quantry_core.rollouts import Release, Rollout, RolloutState
from quantry_core.strategies import WHOLE_PERCENT, ShadowStrategy
from quantry_core.traffic import ReleaseTraffic, TrafficWindow
from quantry_deploy.stages import analysis_of, stage_now
from quantry_store.transactions.rollouts import DeploymentRecord

MAX_SPANS = 128
FIRST_SPAN_S = 1.0


class Timeline:
    """One release's windows from a moment on, in at most MAX_SPANS spans."""

    def __init__(self, release_id: str, since: datetime, until: datetime | None = None) -> None:
        """What began at ``until`` or later is left out; None: nothing is."""
        self.release_id = release_id
        self.since = since
        self.until = until
        self.last_id = 0
        """Of the last window that was read, in the store's order."""
        self._span_s = FIRST_SPAN_S
        self._spans: dict[int, TrafficWindow] = {}

    def add(self, windows: Sequence[TrafficWindow], last_id: int) -> bool:
        """Takes windows that were read, up to that id; returns whether any of them counts."""
        counted = [window for window in windows if self._counts(window)]
        for window in counted:
            self._merge(self._place(window), window)
        while self._spans and max(self._spans) >= MAX_SPANS:
            self._double()
        self.last_id = max(self.last_id, last_id)
        return bool(counted)

    def traffic(self) -> ReleaseTraffic:
        """Returns what is known, in order of time."""
        return ReleaseTraffic(release_id=self.release_id, windows=[self._spans[place] for place in sorted(self._spans)])

    @property
    def num_judged(self) -> int:
        """Requests that say something of the release's errors."""
        return sum(window.tally.num_judged for window in self._spans.values())

    def _counts(self, window: TrafficWindow) -> bool:
        is_over = self.until is not None and window.began_at >= self.until
        return window.release_id == self.release_id and window.began_at >= self.since and not is_over

    def _place(self, window: TrafficWindow) -> int:
        return int((window.began_at - self.since).total_seconds() // self._span_s)

    def _merge(self, place: int, window: TrafficWindow) -> None:
        there = self._spans.get(place)
        self._spans[place] = window if there is None else merged(there, window)

    def _double(self) -> None:
        spans, self._spans, self._span_s = self._spans, {}, 2 * self._span_s
        for place in sorted(spans):
            self._merge(place // 2, spans[place])


def merged(one: TrafficWindow, other: TrafficWindow) -> TrafficWindow:
    """Returns one window of the same release over the time of both."""
    return TrafficWindow(
        release_id=one.release_id,
        began_at=min(one.began_at, other.began_at),
        ended_at=max(one.ended_at, other.ended_at),
        tally=one.tally.merged(other.tally),
    )


@dataclass(frozen=True)
class Case:
    """A rollout that is judged now, and by whose traffic of which time.

    Each stage stands on its own time: what a candidate showed at 10% says little of 50%. Where it has all traffic, at a step of 100% and
    after the promotion, the release before has none any more: what that showed since the rollout was asked for, up to then, is what the
    candidate is held against.
    """

    rollout: Rollout
    part: str
    """Which of the rollout's sets of evidence it is."""
    candidate: Release
    stable_id: str
    candidate_since: datetime
    stable_since: datetime
    stable_until: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other set of evidence. A stage that has its time again keeps what it knows."""
        return self.rollout.id, self.part


def case_of(record: DeploymentRecord) -> Case | None:
    """Returns what is to be judged of a deployment: the stage of its active rollout, or what was promoted and is watched.

    A rollout whose strategy asks for no analysis, or that has nothing to be compared with, is none.
    """
    deployment = record.deployment
    if deployment.is_stopped:
        return None
    if deployment.active_rollout is not None and deployment.active_rollout.state is not RolloutState.PENDING:
        return _staged(record, deployment.active_rollout)
    watched, current = deployment.watched_rollout, deployment.current_release
    if watched is None or current is None or current.id != watched.to_release_id:
        return None
    return _watched(watched, current)


def _staged(record: DeploymentRecord, rollout: Rollout) -> Case | None:
    is_judged = isinstance(rollout.strategy, ShadowStrategy) or analysis_of(rollout) is not None
    stage = stage_now(rollout)
    if rollout.staged_at is None or rollout.from_release_id is None or not is_judged or not stage.is_exposed:
        return None
    has_all = stage.percent == WHOLE_PERCENT
    return Case(
        rollout=rollout,
        part=f"stage {rollout.stage}",
        candidate=record.releases[rollout.to_release_id],
        stable_id=rollout.from_release_id,
        candidate_since=rollout.staged_at,
        stable_since=rollout.created_at if has_all else rollout.staged_at,
        stable_until=rollout.staged_at if has_all else None,
    )


def _watched(watched: Rollout, current: Release) -> Case | None:
    if analysis_of(watched) is None or watched.from_release_id is None or watched.finished_at is None:
        return None
    return Case(
        rollout=watched,
        part="watch",
        candidate=current,
        stable_id=watched.from_release_id,
        candidate_since=watched.finished_at,
        stable_since=watched.created_at,
        stable_until=watched.finished_at,
    )
