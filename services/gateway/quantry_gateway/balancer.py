"""Which replica gets a request: the one with the least requests outstanding, in turn where equal."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from quantry_core.routes import RoutedReplica
from quantry_gateway.ejection import Ejection


@dataclass(slots=True, eq=False)
class Turn:
    """One request's place at a replica, counted until it is given back."""

    replica: RoutedReplica
    on_trial: bool
    """The replica was ejected: this request tells whether it may be asked again."""


class Balancer:
    """Counts outstanding requests by replica id. Replicas that are ejected, or have all they may have, are passed over."""

    def __init__(self, ejection: Ejection) -> None:
        self._ejection = ejection
        self._turns = itertools.count(1)
        self._outstanding: dict[str, int] = {}
        self._last_turn: dict[str, int] = {}

    def take(self, replicas: Sequence[RoutedReplica], besides: Collection[str] = ()) -> Turn | None:
        """Returns a turn at the replica to ask; None where none has room but those whose ids are in ``besides``."""
        best = None
        best_rank = (0, 0)
        for replica in replicas:
            num_outstanding = self._outstanding.get(replica.id, 0)
            if num_outstanding >= replica.max_requests or replica.id in besides or self._ejection.is_out(replica.id):
                continue
            rank = (num_outstanding, self._last_turn.get(replica.id, 0))
            if best is None or rank < best_rank:
                best, best_rank = replica, rank
        if best is None:
            return None
        self._last_turn[best.id] = next(self._turns)
        self._outstanding[best.id] = best_rank[0] + 1
        return Turn(best, self._ejection.begun(best.id))

    def give_back(self, turn: Turn) -> None:
        """Counts one request less."""
        replica_id = turn.replica.id
        self._ejection.ended(replica_id, on_trial=turn.on_trial)
        left = self._outstanding[replica_id] - 1
        if left:
            self._outstanding[replica_id] = left
        else:
            del self._outstanding[replica_id]

    def answering(self, turn: Turn) -> None:
        """The replica has begun an answer."""
        self._ejection.answering(turn.replica.id, on_trial=turn.on_trial)

    def succeeded(self, turn: Turn) -> None:
        """The replica has answered to the end."""
        self._ejection.succeeded(turn.replica.id, on_trial=turn.on_trial)

    def broke_off(self, turn: Turn) -> bool:
        """The replica did not end an answer that it had begun. Returns whether that ejected it."""
        return self._ejection.broke_off(turn.replica.id, on_trial=turn.on_trial)

    def failed(self, turn: Turn, *, at_once: bool = False) -> bool:
        """The replica refused, dropped or failed the request. Returns whether that ejected it; ``at_once``: whatever went before."""
        return self._ejection.failed(turn.replica.id, on_trial=turn.on_trial, at_once=at_once)

    @property
    def num_ejections(self) -> int:
        """How often a replica was ejected, since the gateway began."""
        return self._ejection.num_ejections

    def num_out(self, replica_ids: AbstractSet[str]) -> int:
        """Returns how many of these replicas may get no request now."""
        return sum(self._ejection.is_out(replica_id) for replica_id in replica_ids)

    def num_outstanding(self, replica_id: str) -> int:
        """Returns how many requests a replica has under way."""
        return self._outstanding.get(replica_id, 0)

    def is_usable(self, replicas: Sequence[RoutedReplica], besides: Collection[str] = ()) -> bool:
        """Tells whether any replica is in, those in ``besides`` left out: it has room now, or will have."""
        return any(replica.id not in besides and not self._ejection.is_out(replica.id) for replica in replicas)

    def keep_only(self, replica_ids: AbstractSet[str]) -> None:
        """Forgets the turns and failures of replicas that are no more. Requests they still serve stay counted."""
        self._last_turn = {replica_id: turn for replica_id, turn in self._last_turn.items() if replica_id in replica_ids}
        self._ejection.keep_only(replica_ids)
