"""How patient the controller is. All in seconds unless the name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from quantry_core.rollouts import Rollout


@dataclass(frozen=True)
class Policy:
    """The numbers that decide uses."""

    resumed_at: datetime
    """When this controller first saw the records, by the database's clock. A rollout that began before gets its whole time again:
    nobody worked on it in between."""
    drain_s: float = 5.0
    """A replica goes on this long after its route is gone: gateways that have not heard of that still send requests."""
    stop_grace_s: float = 120.0
    """Between SIGTERM and SIGKILL: what its requests have to finish in. An engine ends as soon as it has none."""
    unhealthy_after_s: float = 10.0
    """Silence after which a replica gets no traffic."""
    restart_after_s: float = 60.0
    """Silence after which a replica is restarted."""
    start_timeout_s: float = 900.0
    """An engine that has not answered by then is restarted; inside a rollout the rollout's own deadline comes first."""
    settled_after_s: float = 600.0
    """A replica that was ready this long has its restarts counted from zero again."""
    max_backoff_s: float = 60.0
    max_restarts_in_rollout: int = 3
    lost_after_s: float = 30.0
    """A candidate that had traffic, or a release in its watch, without one ready replica for so long is rolled back."""

    def backoff_s(self, num_restarts: int) -> float:
        """Returns the wait before the next start: 1, 2, 4 ... up to ``max_backoff_s``."""
        return min(2.0 ** min(num_restarts, 30), self.max_backoff_s)

    def deadline(self, rollout: Rollout) -> datetime:
        """Returns when a rollout must be ready."""
        if rollout.created_at >= self.resumed_at:
            return rollout.ready_deadline_at
        return max(rollout.ready_deadline_at, self.resumed_at + self.allowed(rollout))

    def allowed(self, rollout: Rollout) -> timedelta:
        """Returns how long a rollout's replicas may take to become ready."""
        return rollout.ready_deadline_at - rollout.created_at
