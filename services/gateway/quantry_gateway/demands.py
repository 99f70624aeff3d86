"""Requests that wait for a deployment that has no replica: bounded, and counted so that somebody brings one up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quantry_core.traffic import Demand


class WaitingRoom:
    """Counts who waits, by deployment. At most ``max_waiting`` may wait for one."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._waiting: dict[str, int] = {}

    def has_room(self, deployment_id: str) -> bool:
        """Tells whether one more may wait for a deployment."""
        return self._waiting.get(deployment_id, 0) < self._max_waiting

    @contextmanager
    def waiting(self, deployment_id: str) -> Iterator[None]:
        """Counts one request as waiting while the block runs."""
        self._waiting[deployment_id] = self._waiting.get(deployment_id, 0) + 1
        try:
            yield
        finally:
            left = self._waiting.pop(deployment_id) - 1
            if left:
                self._waiting[deployment_id] = left

    def num_waiting(self) -> int:
        """Returns how many requests wait, for all deployments."""
        return sum(list(self._waiting.values()))

    def demands(self) -> list[Demand]:
        """Returns who is waited for now."""
        return [Demand(deployment_id=deployment_id, num_waiting=number) for deployment_id, number in self._waiting.items()]
