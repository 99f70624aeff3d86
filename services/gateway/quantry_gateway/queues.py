"""Requests that wait for room at a release's replicas: first come, first served, so many and so long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from quantry_core.routes import RoutedReplica
from quantry_gateway.balancer import Balancer, Turn

LOOK_AGAIN_S = 0.5
"""Room that nobody gave back is found so late: that of a replica whose time out is over, or which has passed its trial."""

FindReplicas = Callable[[], Sequence[RoutedReplica]]
"""Returns the replicas that may be asked, as the newest routes have them."""


class QueueFull(Exception):
    """As many requests wait for this release as may."""


class WaitedTooLong(Exception):
    """No replica had room in time."""


class NothingLeft(Exception):
    """There is no replica to ask any more: all are ejected, have been tried or are gone."""


@dataclass(slots=True, eq=False)
class _Waiter:
    turn: asyncio.Future[Turn]
    find: FindReplicas
    besides: Collection[str]


class Queues:
    """One queue for each release. A replica that has room again is given to the first who can use it."""

    def __init__(self, balancer: Balancer, *, max_waiting: int, wait_s: float) -> None:
        self._balancer = balancer
        self._max_waiting = max_waiting
        self._wait_s = wait_s
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._looking: asyncio.TimerHandle | None = None

    async def take(self, release_id: str, find: FindReplicas, besides: Collection[str] = ()) -> Turn:
        """Returns a turn at a replica that has room, waiting for it where it must; it is to be given back.

        Raises NothingLeft, QueueFull or WaitedTooLong.
        """
        turn = self._balancer.take(find(), besides)
        if turn is not None:
            return turn
        if not self._balancer.is_usable(find(), besides):
            raise NothingLeft
        if len(self._waiting.get(release_id, ())) >= self._max_waiting:
            raise QueueFull
        return await self._wait(release_id, _Waiter(asyncio.get_running_loop().create_future(), find, besides))

    async def _wait(self, release_id: str, waiter: _Waiter) -> Turn:
        queue = self._waiting.setdefault(release_id, deque())
        queue.append(waiter)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look_again)
        try:
            async with asyncio.timeout(self._wait_s):
                return await waiter.turn
        except TimeoutError:
            self._hand_on(release_id, waiter)
            raise WaitedTooLong from None
        except asyncio.CancelledError:
            self._hand_on(release_id, waiter)
            raise
        finally:
            queue.remove(waiter)
            if not queue:
                del self._waiting[release_id]

    def _hand_on(self, release_id: str, waiter: _Waiter) -> None:
        """Gives back what a waiter got at the very moment it stopped waiting."""
        if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
            self.give_back(release_id, waiter.turn.result())

    def num_waiting(self) -> int:
        """Returns how many requests wait for room, at all releases."""
        return sum(len(queue) for queue in list(self._waiting.values()))

    def give_back(self, release_id: str, turn: Turn) -> None:
        """Ends a turn; who waits longest for the room it leaves has it at once."""
        self._balancer.give_back(turn)
        self._offer(release_id, num_rooms=1)

    def refresh(self) -> None:
        """Looks at who waits once more: the routes have changed, or a replica may be in again."""
        for release_id in self._waiting:
            self._offer(release_id, num_rooms=self._max_waiting)

    def _look_again(self) -> None:
        self._looking = None
        if self._waiting:
            self._looking = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look_again)
            self.refresh()

    def _offer(self, release_id: str, *, num_rooms: int) -> None:
        for waiter in self._waiting.get(release_id, ()):
            if not num_rooms:
                return
            if waiter.turn.done():
                continue
            replicas = waiter.find()
            turn = self._balancer.take(replicas, waiter.besides)
            if turn is not None:
                waiter.turn.set_result(turn)
                num_rooms -= 1
            elif not self._balancer.is_usable(replicas, waiter.besides):
                waiter.turn.set_exception(NothingLeft())
