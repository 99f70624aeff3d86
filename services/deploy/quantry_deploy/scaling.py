"""How many replicas a release should have: by what waits, how full the KV caches are, and when somebody last asked. Pure.

More are wanted at once, fewer only when fewer have sufficed for ``scale_down_after_s``. None at all are wanted of a release that may
have none once nobody has asked for ``idle_after_s``; the next request brings one up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from quantry_core.jobs import Scaling
from quantry_core.rollouts import Deployment, Release, Replica, ReplicaState
from quantry_deploy.observations import ReplicaObservation
from quantry_deploy.wanted import num_wanted

UNSEEN_AFTER_S = 30.0
"""Where nobody has looked for longer than this, nor for as long as needs are remembered, it is not known what was needed."""

ROUNDING = 1e-6
"""What a sum of shares may be off by."""


@dataclass(frozen=True)
class Needs:
    """How many replicas were needed of late: what a controller remembers. One that begins anew scales down later, never sooner."""

    since: datetime | None = None
    """When it began to look."""
    peaks: tuple[tuple[datetime, int], ...] = ()
    """Each need that no later one has reached, by its time: the first is the largest."""

    def seen(self, needed: int, now: datetime, *, kept_s: float) -> Needs:
        """Returns what is remembered after one more look; what is older than ``kept_s`` seconds is forgotten.

        After so long a time without a look, because the database was away, say, it begins anew.
        """
        if self.peaks and now - self.peaks[-1][0] > timedelta(seconds=max(kept_s, UNSEEN_AFTER_S)):
            return Needs(now, ((now, needed),))
        recent = tuple(peak for peak in self.peaks if now - peak[0] <= timedelta(seconds=kept_s) and peak[1] > needed)
        return Needs(self.since or now, (*recent, (now, needed)))

    def sufficient(self, now: datetime, *, within_s: float) -> int | None:
        """Returns what sufficed for the last ``within_s`` seconds; None where it has not looked for so long."""
        if self.since is None or now - self.since < timedelta(seconds=within_s):
            return None
        return max(peak for _, peak in self.peaks)


def num_needed(scaling: Scaling, looks: Sequence[ReplicaObservation]) -> int | None:
    """Returns how many replicas the load of the ready ones would be right for, at least 0; None where no engine says anything."""
    waiting = [look.num_waiting for look in looks if look.num_waiting is not None]
    kv_use = [look.kv_use for look in looks if look.kv_use is not None]
    if not waiting and not kv_use:
        return None
    by_waiting = math.ceil(_total(waiting, len(looks)) / scaling.target_waiting - ROUNDING)
    by_kv_use = math.ceil(_total(kv_use, len(looks)) / scaling.target_kv_use - ROUNDING)
    running = 1 if any(look.num_running for look in looks) else 0
    return max(by_waiting, by_kv_use, running, 0)


def is_idle(deployment: Deployment, release: Release, looks: Sequence[ReplicaObservation], now: datetime) -> bool:
    """Tells whether nobody has asked for ``idle_after_s``, and nothing is under way. A replica that has just come up is not idle yet."""
    if release.scaling is None or any(look.num_running or look.num_waiting for look in looks):
        return False
    came_up = [one.updated_at for one in deployment.replicas if one.release_id == release.id and one.state is not ReplicaState.STOPPING]
    asked = [moment for moment in (deployment.requested_at, deployment.demanded_at) if moment is not None]
    latest = max([*came_up, *asked], default=None)
    return latest is None or now - latest >= timedelta(seconds=release.scaling.idle_after_s)


def scaled(deployment: Deployment, release: Release, looks: Sequence[ReplicaObservation], needs: Needs, now: datetime) -> tuple[int, Needs]:
    """Returns how many replicas the current release should have, and what to remember; one without scaling has its number.

    ``looks`` is what was seen of its ready replicas.
    """
    scaling, num_now = release.scaling, num_wanted(deployment, release)
    if scaling is None:
        return num_now, Needs()
    lowest = scaling.min_replicas
    if lowest == 0 and not is_idle(deployment, release, looks, now):
        lowest = 1
    needed = num_needed(scaling, looks)
    if needed is None:
        # Nothing is known: one more is wanted only where there is none and somebody waits.
        needed = num_now if num_now and lowest else lowest
    bounded = min(max(needed, lowest), scaling.max_replicas)
    needs = needs.seen(bounded, now, kept_s=scaling.scale_down_after_s)
    if bounded >= num_now:
        return bounded, needs
    if bounded == 0:
        # Idleness has lasted long enough by itself.
        return 0, needs
    sufficient = needs.sufficient(now, within_s=scaling.scale_down_after_s)
    return (num_now if sufficient is None else min(num_now, sufficient)), needs


def ready_looks(replicas: Sequence[Replica], looks: dict[str, ReplicaObservation]) -> list[ReplicaObservation]:
    """Returns what was seen of the replicas that are ready."""
    return [looks[one.id] for one in replicas if one.state is ReplicaState.READY and one.id in looks]


def _total(figures: Sequence[float], num: int) -> float:
    """Returns the sum over ``num`` replicas, of which those that say nothing are taken for the average of the others."""
    return sum(figures) / len(figures) * num if figures else 0.0
