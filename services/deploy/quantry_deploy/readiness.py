"""How long replicas have been missing: the little that a controller remembers between passes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from quantry_core.rollouts import ReplicaState
from quantry_deploy.observations import Readiness
from quantry_deploy.wanted import Wanted, wanted_replicas
from quantry_store.transactions.rollouts import DeploymentRecord


@dataclass
class _Memory:
    """Of one release."""

    first_at: datetime
    any_ready_at: datetime | None = None
    all_ready_at: datetime | None = None


class ReadinessMemory:
    """Knows when each release was last ready. All times are those of the database."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    def look(self, record: DeploymentRecord, now: datetime) -> dict[str, Readiness]:
        """Returns by id how long replicas of the wanted releases have been missing. One that should have none has none missing."""
        wanted = [one for one in wanted_replicas(record) if one.ordinals]
        known = {one.release.id for one in wanted}
        for release_id in record.releases:
            if release_id not in known:
                self._memories.pop(release_id, None)
        return {one.release.id: self._look(one, record, now) for one in wanted}

    def keep_only(self, release_ids: Collection[str]) -> None:
        """Forgets other releases."""
        self._memories = {id_: memory for id_, memory in self._memories.items() if id_ in release_ids}

    def _look(self, wanted: Wanted, record: DeploymentRecord, now: datetime) -> Readiness:
        memory = self._memories.setdefault(wanted.release.id, _Memory(now))
        num_ready = sum(replica.state is ReplicaState.READY for replica in wanted.replicas(record).values())
        if num_ready:
            memory.any_ready_at = now
        if num_ready == len(wanted.ordinals):
            memory.all_ready_at = now
        return Readiness(
            none_s=(now - (memory.any_ready_at or memory.first_at)).total_seconds(),
            some_missing_s=(now - (memory.all_ready_at or memory.first_at)).total_seconds(),
            was_ready=memory.any_ready_at is not None,
        )
