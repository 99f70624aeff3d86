"""What every driver does at one look at an engine: ask whether it answers, have it prove itself, and now and then how busy it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Protocol

from quantry_deploy.drivers.gauges import UNKNOWN_LOAD, Load
from quantry_deploy.drivers.probes import Target
from quantry_deploy.drivers.proofs import Doubter, Proofs
from quantry_deploy.observations import ReplicaObservation

LOAD_INTERVAL_S = 2.0
"""Between two readings of an engine's metrics: a text of some 100 KB."""

PROOF_PATIENCE_S = 0.3
"""A look waits so long for an engine's first token: a quick one is ready at the first look that it answers."""


class Asker(Doubter, Protocol):
    """Who asks the engine: ``quantry_deploy.drivers.probes.EngineProbe``."""

    async def answers(self, target: Target) -> bool:
        """Tells whether it answers."""
        ...

    async def load(self, target: Target) -> Load:
        """Returns how busy it is."""
        ...


class Looks:
    """Remembers of each replica when it last answered, whether it is proven, and how busy it was. Lives in one event loop."""

    def __init__(self, probe: Asker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._probe = probe
        self._proofs = Proofs(probe)
        self._clock = clock
        self._answered_at_s: dict[str, float] = {}
        self._loads: dict[str, tuple[float, Load]] = {}

    def started(self, replica_id: str) -> None:
        """Says that a replica was just started: its silence counts from now."""
        self._answered_at_s[replica_id] = self._clock()

    async def look(self, replica_id: str, run: Hashable, target: Target) -> ReplicaObservation:
        """Returns what is seen of an engine that runs; ``run`` tells this start of it from the one before."""
        now_s = self._clock()
        answers = await self._probe.answers(target)
        if answers:
            self._answered_at_s[replica_id] = now_s
            self._proofs.ask(replica_id, run, target)
            await self._proofs.settle(replica_id, run, within_s=PROOF_PATIENCE_S)
        load = await self._load(replica_id, target, now_s) if answers else UNKNOWN_LOAD
        return ReplicaObservation(
            is_running=True,
            answers=answers,
            is_proven=self._proofs.is_proven(replica_id, run),
            silent_s=now_s - self._answered_at_s.setdefault(replica_id, now_s),
            doubt=self._proofs.doubt(replica_id, run),
            num_running=load.num_running,
            num_waiting=load.num_waiting,
            kv_use=load.kv_use,
        )

    def forget(self, replica_id: str) -> None:
        """Says that nothing of a replica runs any more."""
        self._answered_at_s.pop(replica_id, None)
        self._loads.pop(replica_id, None)
        self._proofs.forget(replica_id)

    async def close(self) -> None:
        """Gives up what goes on."""
        await self._proofs.close()

    async def _load(self, replica_id: str, target: Target, now_s: float) -> Load:
        known = self._loads.get(replica_id)
        if known is not None and now_s - known[0] < LOAD_INTERVAL_S:
            return known[1]
        load = await self._probe.load(target)
        self._loads[replica_id] = (now_s, load)
        return load
