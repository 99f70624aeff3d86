"""Which replica gets a request: the one with the least requests outstanding, in turn where equal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from quantry_core.rollouts import RoutedReplica


class Balancer:
    """Counts outstanding requests by replica id and remembers who refused a connection lately."""

    def __init__(self, *, set_aside_s: float, clock_s: Callable[[], float]) -> None:
        self._set_aside_s = set_aside_s
        self._clock_s = clock_s
        self._turns = itertools.count(1)
        self._outstanding: dict[str, int] = {}
        self._last_turn: dict[str, int] = {}
        self._aside_until_s: dict[str, float] = {}

    def order(self, replicas: Sequence[RoutedReplica]) -> list[RoutedReplica]:
        """Returns the replicas, the one to try first in front. Those set aside come last: they are better than none."""
        now_s = self._clock_s()

        def rank(replica: RoutedReplica) -> tuple[bool, int, int]:
            is_aside = self._aside_until_s.get(replica.id, 0.0) > now_s
            return is_aside, self._outstanding.get(replica.id, 0), self._last_turn.get(replica.id, 0)

        return sorted(replicas, key=rank)

    @contextmanager
    def serving(self, replica_id: str) -> Iterator[None]:
        """Counts one request of a replica as outstanding while the block runs."""
        self._last_turn[replica_id] = next(self._turns)
        self._outstanding[replica_id] = self._outstanding.get(replica_id, 0) + 1
        try:
            yield
        finally:
            left = self._outstanding[replica_id] - 1
            if left:
                self._outstanding[replica_id] = left
            else:
                del self._outstanding[replica_id]

    def set_aside(self, replica_id: str) -> None:
        """Puts a replica that refused a connection behind the others for a few seconds."""
        self._aside_until_s[replica_id] = self._clock_s() + self._set_aside_s

    def keep_only(self, replica_ids: AbstractSet[str]) -> None:
        """Forgets the turns and refusals of replicas that are no more. Requests they still serve stay counted."""
        self._last_turn = {replica_id: turn for replica_id, turn in self._last_turn.items() if replica_id in replica_ids}
        self._aside_until_s = {replica_id: until for replica_id, until in self._aside_until_s.items() if replica_id in replica_ids}
