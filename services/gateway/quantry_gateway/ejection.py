"""Replicas that fail are left out for a growing time, then tried with one request before they get more."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

_ALONE_S = 1.0
"""A replica on trial has one request for so long; one that answers late is not kept from everybody until then."""

_ALONE_TO_THE_END_S = 10.0
"""The same where the trial is not over before the end of the answer: the replica broke answers off that it had begun."""


@dataclass(slots=True)
class _Record:
    num_failures: int = 0
    """In a row."""
    num_ejections: int = 0
    breaks_off: bool = False
    """It began an answer and did not end it: only an answer to its end says that it is well."""
    out_until_s: float | None = None
    """Set until a request on trial has succeeded."""
    num_trials: int = 0
    """Requests on trial under way."""
    tried_at_s: float = 0.0


class Ejection:
    """What is known of replicas that failed lately. One that never failed is not in here.

    ``after`` failures in a row eject, one refused connection does so by itself: ``first_s`` long, and twice as long each time that
    the request on trial which follows fails too, at most ``longest_s``.
    """

    def __init__(self, *, after: int, first_s: float, longest_s: float, clock_s: Callable[[], float]) -> None:
        self._after = after
        self._first_s = first_s
        self._longest_s = longest_s
        self._clock_s = clock_s
        self._records: dict[str, _Record] = {}
        self.num_ejections = 0
        """Of all replicas, since the gateway began."""

    def is_out(self, replica_id: str) -> bool:
        """Tells whether a replica may get no request now."""
        record = self._records.get(replica_id)
        if record is None or record.out_until_s is None:
            return False
        now_s = self._clock_s()
        alone_s = _ALONE_TO_THE_END_S if record.breaks_off else _ALONE_S
        return now_s < record.out_until_s or (record.num_trials > 0 and now_s < record.tried_at_s + alone_s)

    def begun(self, replica_id: str) -> bool:
        """A replica gets a request. Returns whether that is on trial: the other calls about it say so."""
        record = self._records.get(replica_id)
        if record is None or record.out_until_s is None:
            return False
        record.tried_at_s = self._clock_s()
        record.num_trials += 1
        return True

    def answering(self, replica_id: str, *, on_trial: bool) -> None:
        """A replica has begun an answer: that it is well, unless it is one that breaks them off."""
        record = self._records.get(replica_id)
        if record is not None and not record.breaks_off:
            self.succeeded(replica_id, on_trial=on_trial)

    def succeeded(self, replica_id: str, *, on_trial: bool) -> None:
        """A replica has answered to the end. An answer that it was asked for before it was ejected says nothing."""
        record = self._records.get(replica_id)
        if record is None:
            return
        if record.out_until_s is None:
            record.num_failures, record.breaks_off = 0, False
        elif on_trial:
            del self._records[replica_id]

    def broke_off(self, replica_id: str, *, on_trial: bool) -> bool:
        """A replica did not end an answer that it had begun. Returns whether that ejected it."""
        self._records.setdefault(replica_id, _Record()).breaks_off = True
        return self.failed(replica_id, on_trial=on_trial)

    def failed(self, replica_id: str, *, on_trial: bool, at_once: bool = False) -> bool:
        """A replica refused, dropped or failed a request. Returns whether that ejected it; ``at_once``: without waiting for more."""
        record = self._records.setdefault(replica_id, _Record())
        now_s = self._clock_s()
        if record.out_until_s is not None and (not on_trial or now_s < record.out_until_s):
            return False
        record.num_failures += 1
        if not (at_once or on_trial or record.num_failures >= self._after):
            return False
        record.out_until_s = now_s + min(self._first_s * 2.0 ** min(record.num_ejections, 30), self._longest_s)
        record.num_ejections += 1
        record.num_failures = 0
        self.num_ejections += 1
        return True

    def ended(self, replica_id: str, *, on_trial: bool) -> None:
        """A request of a replica is over, whatever it told."""
        record = self._records.get(replica_id) if on_trial else None
        if record is not None:
            record.num_trials = max(0, record.num_trials - 1)

    def keep_only(self, replica_ids: AbstractSet[str]) -> None:
        """Forgets replicas that are no more."""
        self._records = {replica_id: record for replica_id, record in self._records.items() if replica_id in replica_ids}
