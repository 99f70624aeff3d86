"""Looks at replicas that nobody waits for: what hangs is asked on in the background, and was last seen as it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from quantry_core.rollouts import Replica
from quantry_deploy.observations import ReplicaObservation

PATIENCE_S = 0.4
"""A pass waits so long for the answer of a replica that it knows."""

FIRST_PATIENCE_S = 3.0
"""And so long for its first."""

TIMEOUT_S = 15.0
"""A look that takes longer is given up, and begun anew."""

MOST_BETWEEN_S = 5.0
"""Of the time between two looks no more counts as silence: nobody asked meanwhile."""


class Prober(Protocol):
    """Who looks: a ``quantry_deploy.drivers.protocol.PoolDriver``."""

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        """Looks at a replica's process and asks its engine."""
        ...


@dataclass
class _Look:
    """What is known of one process of a replica."""

    process: tuple[int | None, float | None, str | None]
    task: asyncio.Task[ReplicaObservation] | None = None
    last: ReplicaObservation | None = None
    last_at_s: float = 0.0
    """When that was seen, or later by what does not count as silence."""
    unasked_s: float = 0.0
    """Of the time since it last answered, what does not count as silence."""


class Probing:
    """Knows what was last seen of each replica. Lives in one event loop."""

    def __init__(self, prober: Prober, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._prober = prober
        self._clock = clock
        self._looks: dict[str, _Look] = {}

    async def look(self, replicas: Sequence[Replica], served_name: str) -> dict[str, ReplicaObservation]:
        """Returns by id what was seen of these replicas: just now, or, of one that does not answer in time, before.

        One of which nothing was seen yet counts as a process that does not answer. Raises what a look raised.
        """
        looks = {replica.id: self._begin(replica, served_name) for replica in replicas}
        await self._wait([look for look in looks.values() if look.last is None], FIRST_PATIENCE_S)
        await self._wait(list(looks.values()), PATIENCE_S)
        return {replica_id: self._seen(look) for replica_id, look in looks.items()}

    def keep_only(self, replica_ids: Collection[str]) -> None:
        """Forgets other replicas."""
        for replica_id in [id_ for id_ in self._looks if id_ not in replica_ids]:
            self._forget(replica_id)

    async def close(self) -> None:
        """Gives up what goes on."""
        tasks = [look.task for look in self._looks.values() if look.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, replica: Replica, served_name: str) -> _Look:
        process = (replica.pid, replica.pid_started_at, replica.url)
        look = self._looks.get(replica.id)
        if look is None or look.process != process:
            self._forget(replica.id)
            look = self._looks[replica.id] = _Look(process)
        self._take(look)
        if look.task is None:
            unasked_s = self._clock() - look.last_at_s - MOST_BETWEEN_S
            if look.last is not None and unasked_s > 0:
                look.unasked_s += unasked_s
                look.last_at_s += unasked_s
            look.task = asyncio.create_task(self._probe(look, replica, served_name))
        return look

    async def _probe(self, look: _Look, replica: Replica, served_name: str) -> ReplicaObservation:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                seen = await self._prober.probe(replica, served_name)
        except TimeoutError:
            seen = _silent(look.last, TIMEOUT_S)
        else:
            look.unasked_s = 0.0 if seen.answers else look.unasked_s
            seen = replace(seen, silent_s=max(0.0, seen.silent_s - look.unasked_s))
        look.last_at_s = self._clock()
        return seen

    async def _wait(self, looks: Sequence[_Look], timeout_s: float) -> None:
        tasks = [look.task for look in looks if look.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def _seen(self, look: _Look) -> ReplicaObservation:
        self._take(look)
        if look.task is None and look.last is not None:
            return look.last
        return _silent(look.last, self._clock() - look.last_at_s)

    def _take(self, look: _Look) -> None:
        """Takes what a look that is over saw; raises what it raised."""
        if look.task is not None and look.task.done():
            task, look.task = look.task, None
            look.last = task.result()

    def _forget(self, replica_id: str) -> None:
        look = self._looks.pop(replica_id, None)
        if look is not None and look.task is not None:
            look.task.cancel()


def _silent(last: ReplicaObservation | None, since_s: float) -> ReplicaObservation:
    """Returns what a replica looks like that has not answered for so many seconds more."""
    if last is None:
        return ReplicaObservation(is_running=True)
    return replace(last, answers=False, silent_s=last.silent_s + since_s)
